/* A network from a file: its settings, the way from one to the next, and its reductions. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "file.h"
#include "ftwt.h"
#include "sureness.h"

enum { MOST_IMAGES = 1 << 20, MOST_THREADS = 1 << 10 };

/* A setting made ready for some number of images. */
typedef struct {
    ftwt_program program;
    ftwt_plan *plan;
    ftwt_tensor *made;
    void *memory; /* one piece: values, masks, counts, tensors */
    int64_t *executed;
    float *thresholds; /* by step */
} prepared;

struct ftwt_model {
    ftwt_contents contents;
    const char *set;
    int threads;
    /* Of each setting; an escalating one's later settings take images one by one. */
    prepared *setting;
    float *thresholds; /* of all settings, one after the other */
    double *sure;      /* of each setting but the last */
    float *own;        /* one image's answer */
    float *mirrored;   /* one image, left for right */
};

static int64_t floats_of(const int32_t shape[3]) {
    return (int64_t)shape[0] * shape[1] * shape[2];
}

static const char *meaning(int failed) {
    return failed == FTWT_MEMORY ? "out of memory"
                                 : "the file is damaged: its steps contradict each other";
}

static void release(prepared *setting) {
    ftwt_release(setting->plan);
    free(setting->memory);
    setting->plan = 0, setting->memory = 0;
}

/* What was laid out for one image holds for each of several that lie one after the other. */
static const char *prepare(ftwt_model *model, int number, int32_t batch) {
    prepared *setting = &model->setting[number];
    if (setting->plan && setting->program.batch == batch) return 0;
    release(setting);
    const ftwt_program *one = &model->contents.head.setting[number].program;
    ftwt_program *p = &setting->program;
    *p = *one;
    p->batch = batch;
    p->arena *= batch;
    int64_t masks = 0;
    for (int i = 0; i < p->sets; i++)
        if (p->set[i].kind == SET_MADE) masks += p->set[i].width;
    const size_t values = (size_t)p->values * sizeof *p->value;
    const size_t tensors = (size_t)(p->made + 1) * sizeof *setting->made;
    const size_t counts = (size_t)p->steps * (size_t)batch * sizeof *setting->executed;
    char *memory = calloc(1, values + tensors + counts + (size_t)masks * (size_t)batch);
    if (!memory) return meaning(FTWT_MEMORY);
    setting->memory = memory;
    ftwt_value *value = (ftwt_value *)memory;
    memcpy(value, one->value, values);
    for (int i = 0; i < p->values; i++) value[i].offset *= batch;
    p->value = value;
    setting->made = (ftwt_tensor *)(memory + values);
    setting->executed = (int64_t *)(memory + values + tensors);
    char *mask = memory + values + tensors + counts;
    for (int i = 0; i < p->sets; i++) {
        if (p->set[i].kind != SET_MADE) continue;
        ftwt_tensor *made = &setting->made[p->set[i].number];
        if (made->data) continue;
        *made = (ftwt_tensor){mask, (int64_t)p->set[i].width * batch};
        mask += made->count;
    }
    const int failed = ftwt_prepare(p, model->set, model->threads, &setting->plan);
    return failed ? meaning(failed) : 0;
}

/* Answers some images at one setting, and adds what that took. */
static const char *run_setting(
    ftwt_model *model, int number, const float *images, int32_t batch, float *answers, int64_t *macs
) {
    const ftwt_file *head = &model->contents.head;
    prepared *setting = &model->setting[number];
    const char *wrong = prepare(model, number, batch);
    if (wrong) return wrong;
    const int steps = setting->program.steps;
    const ftwt_tensor input = {(void *)images, batch * floats_of(head->input)};
    const ftwt_tensor output = {answers, batch * floats_of(head->output)};
    if (macs)
        memset(setting->executed, 0, (size_t)steps * (size_t)batch * sizeof *setting->executed);
    const int failed = ftwt_execute(
        setting->plan, &input, &output, 0, setting->made, setting->thresholds,
        macs ? setting->executed : 0, 0, model->threads
    );
    if (failed) return meaning(failed);
    for (int image = 0; macs && image < batch; image++) {
        macs[image] += head->setting[number].macs;
        for (int i = 0; i < steps; i++)
            macs[image] += setting->executed[(int64_t)i * batch + image];
    }
    return 0;
}

/* Every second setting's view of an image. */
static const float *mirror(ftwt_model *model, const float *image) {
    const int32_t *shape = model->contents.head.input, width = shape[2];
    const int64_t rows = (int64_t)shape[0] * shape[1];
    for (int64_t r = 0; r < rows; r++)
        for (int32_t x = 0; x < width; x++)
            model->mirrored[r * width + x] = image[r * width + width - 1 - x];
    return model->mirrored;
}

/* Asks the next settings, as long as the answer to one image is not sure. */
static const char *
escalate(ftwt_model *model, const float *image, float *answer, int64_t *macs) {
    const ftwt_file *head = &model->contents.head;
    const int64_t floats = floats_of(head->output);
    for (int number = 0; number + 1 < head->settings; number++) {
        const double sure = ftwt_sureness(
            &head->signal[number], answer, head->output[0], floats / head->output[0]
        );
        if (sure >= model->sure[number]) return 0;
        if (sure != sure)
            return ftwt_line("the answer of setting %d is not sure nor unsure but NaN; look for "
                             "inputs that are not finite", number);
        const float *shown = head->mirror && number % 2 == 0 ? mirror(model, image) : image;
        const char *wrong = run_setting(model, number + 1, shown, 1, model->own, macs);
        if (wrong) return wrong;
        const float later = (float)head->weight, before = (float)(1 - head->weight);
        for (int64_t i = 0; i < floats; i++)
            answer[i] = head->weight < 1 ? later * model->own[i] + before * answer[i]
                                         : model->own[i];
    }
    return 0;
}

const char *ftwt_run(
    ftwt_model *model, const float *images, const int32_t shape[4], float *answers, int64_t *macs
) {
    if (!model || !images || !shape || !answers) return "ftwt_run: an address is null";
    const ftwt_file *head = &model->contents.head;
    if (shape[0] < 1 || shape[0] > MOST_IMAGES || memcmp(shape + 1, head->input, sizeof head->input))
        return ftwt_line(
            "ftwt_run: images of shape (%d, %d, %d, %d) came, but the network takes (1 to %d, %d, "
            "%d, %d)", shape[0], shape[1], shape[2], shape[3], MOST_IMAGES, head->input[0],
            head->input[1], head->input[2]
        );
    const int64_t input = floats_of(head->input), output = floats_of(head->output);
    if (macs) memset(macs, 0, (size_t)shape[0] * sizeof *macs);
    const char *wrong = run_setting(model, 0, images, shape[0], answers, macs);
    for (int32_t i = 0; !wrong && head->settings > 1 && i < shape[0]; i++)
        wrong = escalate(model, images + i * input, answers + i * output, macs ? macs + i : 0);
    return wrong;
}

static double between(double low, double high, double share) {
    /* Rounding may lead past the end, which would break the order of settings. */
    return fmin(fmax(low, high), fmax(fmin(low, high), low + share * (high - low)));
}

static void set_limit(ftwt_model *model, int place, double limit) {
    const ftwt_file *head = &model->contents.head;
    if (head->settings > 1) {
        model->sure[place] = limit;
        return;
    }
    const ftwt_program *p = &head->setting->program;
    for (int i = 0; i < p->steps; i++)
        if (ftwt_decides(&p->step[i]) && place-- == 0) model->thresholds[i] = (float)limit;
}

const char *ftwt_at(ftwt_model *model, double reduction) {
    if (!model) return "ftwt_at: an address is null";
    const ftwt_file *head = &model->contents.head;
    if (!head->points)
        return "ftwt_at: the network was not calibrated; export what ftwt.calibrate gives";
    const int64_t width = 1 + head->limits;
    const double first = head->point[0], last = head->point[(head->points - 1) * width];
    /* 0.2 + 0.4 is a little more than 0.6. */
    const double near = fmin(fmax(reduction, first), last);
    if (fabs(near - reduction) < 1e-9) reduction = near;
    if (!(first <= reduction && reduction <= last))
        return ftwt_line("ftwt_at: the network was calibrated for reductions from %g to %g, not for "
                         "%g", first, last, reduction);
    const double *low = head->point + (head->points - 1) * width, *high = low;
    for (int k = 0; k + 1 < head->points; k++) {
        const double *one = head->point + k * width;
        if (one[0] <= reduction && reduction < one[width]) low = one, high = one + width;
    }
    const double share = low == high ? 0 : (reduction - low[0]) / (high[0] - low[0]);
    for (int i = 0; i < head->limits; i++)
        set_limit(model, i, low == high ? low[1 + i] : between(low[1 + i], high[1 + i], share));
    return 0;
}

const char *ftwt_shape(const ftwt_model *model, ftwt_sizes *sizes) {
    if (!model || !sizes) return "ftwt_shape: an address is null";
    const ftwt_file *head = &model->contents.head;
    *sizes = (ftwt_sizes){
        .dense_macs = head->dense_macs,
        .mean = head->scale,
        .deviation = head->scale ? head->scale + head->input[0] : 0,
        .classes = head->classes,
    };
    memcpy(sizes->input, head->input, sizeof head->input);
    memcpy(sizes->output, head->output, sizeof head->output);
    if (head->points) {
        sizes->lowest = head->point[0];
        sizes->highest = head->point[(head->points - 1) * (1 + (int64_t)head->limits)];
    }
    return 0;
}

/* The instruction set to use: the best of this processor, or what FTWT_NATIVE_SET names. */
static const char *choose_set(ftwt_model *model) {
    static const char *const names[] = {"avx512", "avx2", "portable"};
    const char *asked = getenv("FTWT_NATIVE_SET");
    for (int i = 0; i < 3 && !model->set; i++)
        if ((!asked || !*asked || !strcmp(asked, names[i])) && ftwt_kernels_of(names[i]))
            model->set = names[i];
    if (model->set) return 0;
    return ftwt_line("FTWT_NATIVE_SET: %.40s is not among %s", asked, ftwt_sets_known());
}

static const char *start(ftwt_model *model, const char *path) {
    const char *wrong = choose_set(model);
    if (!wrong) wrong = ftwt_read(path, &model->contents);
    if (wrong) return wrong;
    const ftwt_file *head = &model->contents.head;
    int64_t steps = 0;
    for (int i = 0; i < head->settings; i++) steps += head->setting[i].program.steps;
    model->setting = calloc((size_t)head->settings, sizeof *model->setting);
    model->thresholds = calloc((size_t)steps, sizeof *model->thresholds);
    model->sure = calloc((size_t)head->settings, sizeof *model->sure);
    model->own = calloc((size_t)floats_of(head->output), sizeof *model->own);
    model->mirrored = calloc((size_t)floats_of(head->input), sizeof *model->mirrored);
    if (!model->setting || !model->thresholds || !model->sure || !model->own ||
        !model->mirrored)
        return meaning(FTWT_MEMORY);
    float *thresholds = model->thresholds;
    for (int i = 0; i < head->settings; i++) {
        const int own = head->setting[i].program.steps;
        model->setting[i].thresholds = thresholds;
        memcpy(thresholds, head->setting[i].thresholds, (size_t)own * sizeof *thresholds);
        thresholds += own;
        if (i + 1 < head->settings) model->sure[i] = head->sure[i];
    }
    for (int i = 0; !wrong && i < head->settings; i++) wrong = prepare(model, i, 1);
    return wrong;
}

const char *ftwt_open(const char *path, int threads, ftwt_model **model) {
    if (!path || !model) return "ftwt_open: an address is null";
    *model = 0;
    if (threads < 1 || threads > MOST_THREADS)
        return ftwt_line("ftwt_open: %d threads; give 1 to %d", threads, MOST_THREADS);
    ftwt_model *new = calloc(1, sizeof *new);
    if (!new) return meaning(FTWT_MEMORY);
    new->threads = threads;
    const char *wrong = start(new, path);
    if (wrong) {
        ftwt_close(new);
        return wrong;
    }
    *model = new;
    return 0;
}

void ftwt_close(ftwt_model *model) {
    if (!model) return;
    for (int i = 0; model->setting && i < model->contents.head.settings; i++)
        release(&model->setting[i]);
    free(model->setting);
    free(model->thresholds);
    free(model->sure);
    free(model->own);
    free(model->mirrored);
    ftwt_forget(&model->contents);
    free(model);
}
