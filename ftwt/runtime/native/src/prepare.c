/* Choosing kernels, layouts and memory for a program. */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "engine.h"
#include "extents.h"
#include "pages.h"

static const ftwt_kernels *const known[] = {
#if defined(__x86_64__) && !defined(FTWT_PORTABLE)
    &ftwt_avx512,
    &ftwt_avx2,
#endif
    &ftwt_portable,
};
enum { KNOWN = sizeof known / sizeof *known };

/* Kernels read whole vectors, so past the end of what they need. */
enum { SLACK = 256 };

/* Bytes of a cache line. */
enum { LINE = 64 };

const char *ftwt_sets_known(void) {
    /* Written anew by each call; several threads may ask. */
    static _Thread_local char names[64];
    char *end = names;
    for (int i = 0; i < KNOWN; i++)
        if (known[i]->supported()) {
            if (end != names) *end++ = ' ';
            size_t length = strlen(known[i]->name);
            memcpy(end, known[i]->name, length + 1);
            end += length;
        }
    return names;
}

const ftwt_kernels *ftwt_kernels_of(const char *set) {
    for (int i = 0; i < KNOWN; i++)
        if (strcmp(known[i]->name, set) == 0 && known[i]->supported()) return known[i];
    return 0;
}

/* Zeroed, aligned to a cache line, released with the plan. */
static void *allocate(ftwt_plan *plan, int64_t count, int64_t size) {
    char *memory = calloc((size_t)(count * size) + sizeof(void *) + LINE, 1);
    if (!memory) return 0;
    *(void **)memory = plan->memory;
    plan->memory = memory;
    memory += sizeof(void *);
    return memory + (LINE - (uintptr_t)memory % LINE);
}

/* Room for results that are written before they are read. Under a sanitizer it holds no numbers, so
 * that tests see what reads it before. */
static float *allocate_floats(ftwt_plan *plan, int64_t count) {
    float *memory = allocate(plan, count, sizeof *memory);
#if defined(__SANITIZE_ADDRESS__)
    if (memory) memset(memory, 0xff, (size_t)count * sizeof *memory);
#endif
    return memory;
}

static int64_t most(int64_t one, int64_t two) {
    return one > two ? one : two;
}

typedef struct {
    int64_t packed, plane, results, channels, pooled, filters;
} sizes;

static int arrange_steps(ftwt_plan *plan, sizes *need) {
    const ftwt_program *p = &plan->program;
    for (int i = 0; i < p->steps; i++) {
        const ftwt_step *s = &p->step[i];
        const int made = p->set[s->made].width;
        need->channels = most(need->channels, most(made, s->rank));
        for (int k = 0; k < s->sources; k++)
            need->channels = most(need->channels, p->value[s->source[k]].channels);
        if (s->kind == STEP_LINEAR || s->kind == STEP_GATE)
            need->channels = most(need->channels, p->set[s->reads].width);
        if (s->kind == STEP_GATE) need->pooled = most(need->pooled, p->set[s->reads].width);
        if (s->kind != STEP_CONV) continue;
        ftwt_layout *layout = &plan->layout[i];
        int failed = plan->kernels->arrange(layout, p, s);
        if (failed) return failed;
        int64_t middle = (int64_t)s->middle[0] * s->middle[1];
        int64_t inputs = p->value[s->source[0]].channels;
        if (ftwt_is_depthwise(p, s))
            need->plane = most(need->plane, layout->plane);
        else if (layout->kind != LAYOUT_PLAIN)
            need->packed = most(need->packed, layout->plane * inputs);
        if (s->pool) need->results = most(need->results, middle * MOST_FILTERS);
        need->filters = most(need->filters, made);
        plan->weights += (int64_t)made * layout->reads * (inputs / s->groups) * (int64_t)sizeof(float);
    }
    return FTWT_OK;
}

static int follows(const ftwt_program *p, int set, int source) {
    for (int i = 0; i < p->steps; i++)
        if (p->step[i].kind == STEP_FOLLOW && p->step[i].made == set &&
            p->step[i].source[0] == source)
            return 1;
    return 0;
}

static int readers(const ftwt_program *p, int value) {
    int count = 0;
    for (int i = 0; i < p->steps; i++)
        for (int k = 0; k < p->step[i].sources; k++)
            count += p->step[i].kind != STEP_FOLLOW && p->step[i].source[k] == value;
    return count;
}

/* Whether two values may have memory in common. */
static int overlap(const ftwt_program *p, int one, int two) {
    const ftwt_value *a = &p->value[one], *b = &p->value[two];
    const int64_t a_size = (int64_t)p->batch * a->channels * a->height * a->width;
    const int64_t b_size = (int64_t)p->batch * b->channels * b->height * b->width;
    return a->place == PLACE_ARENA && b->place == PLACE_ARENA &&
           a->offset < b->offset + b_size && b->offset < a->offset + a_size;
}

/* Whether the step after a convolution is a depthwise one of just its filters, for it alone. */
static int goes_on(const ftwt_program *p, int number) {
    if (number + 1 == p->steps) return 0;
    const ftwt_step *s = &p->step[number], *next = s + 1;
    if (s->kind != STEP_CONV || next->kind != STEP_CONV || s->pool || next->pool) return 0;
    if (ftwt_is_depthwise(p, s) || !ftwt_is_depthwise(p, next)) return 0;
    if (next->source[0] != s->output || p->set[next->made].width != next->groups) return 0;
    if (p->value[s->output].place != PLACE_ARENA || readers(p, s->output) != 1) return 0;
    if (overlap(p, next->output, s->source[0])) return 0;
    return p->value[s->output].set == s->made &&
           (next->made == s->made || follows(p, next->made, s->output));
}

/* Whether a set has all channels of another, as far as its kind tells. */
static int covers(const ftwt_program *p, int wide, int set) {
    const ftwt_set *w = &p->set[wide];
    if (wide == set || w->kind == SET_ALL) return 1;
    int any = 0;
    for (int i = 0; w->kind == SET_UNION && i < w->parts; i++) any |= covers(p, w->part[i], set);
    return any;
}

/* Whether the step after a convolution adds one other value to its planes, for which it is done. */
static int adds_up(const ftwt_program *p, int number) {
    if (number + 1 == p->steps) return 0;
    const ftwt_step *s = &p->step[number], *next = s + 1;
    if (s->kind != STEP_CONV || s->pool || ftwt_is_depthwise(p, s)) return 0;
    if (next->kind != STEP_ADD || next->sources != 2) return 0;
    const int own = next->source[1] == s->output, other = next->source[1 - own];
    if (next->source[own] != s->output || readers(p, s->output) != 1) return 0;
    if (p->value[s->output].place != PLACE_ARENA) return 0;
    /* Inputs are still read while planes of the sum are made. */
    if (overlap(p, next->output, s->source[0]) || overlap(p, next->output, other)) return 0;
    return p->value[s->output].set == s->made && covers(p, next->made, s->made);
}

/* The gate that reads a value first, if no other is decided before it. */
static const ftwt_step *next_gate(const ftwt_program *p, int number, int value) {
    for (int i = number + 1; i < p->steps; i++)
        if (p->step[i].kind == STEP_GATE)
            return p->step[i].source[0] == value ? &p->step[i] : 0;
    return 0;
}

static void link_steps(ftwt_plan *plan, sizes *need) {
    const ftwt_program *p = &plan->program;
    for (int i = 0; i < p->steps; i++) {
        const ftwt_step *s = &p->step[i];
        ftwt_link *link = &plan->link[i];
        if (s->output < 0) continue;
        if (goes_on(p, i)) {
            link->then = s + 1;
            plan->link[i + 1].taken = 1;
            need->results = most(need->results,
                                 (int64_t)s->middle[0] * s->middle[1] * MOST_FILTERS);
        }
        if (adds_up(p, i)) {
            link->sum = s + 1;
            plan->link[i + 1].taken = 1;
        }
        const ftwt_step *last = link->then ? link->then : link->sum ? link->sum : s;
        if (s->kind != STEP_LINEAR && p->value[last->output].set == last->made)
            link->gate = next_gate(p, (int)(last - p->step), last->output);
    }
}

static int place_sets(ftwt_plan *plan) {
    const ftwt_program *p = &plan->program;
    int64_t width = 0;
    for (int i = 0; i < p->sets; i++) width += p->set[i].width;
    uint8_t *flag = allocate(plan, width * p->batch, 1);
    int32_t *list = allocate(plan, (width + 1) * p->batch, sizeof *list);
    plan->live = allocate(plan, (int64_t)p->sets * p->batch, sizeof *plan->live);
    if (!flag || !list || !plan->live) return FTWT_MEMORY;
    for (int i = 0; i < p->sets; i++)
        for (int sample = 0; sample < p->batch; sample++) {
            ftwt_live *live = &plan->live[(int64_t)i * p->batch + sample];
            live->flag = flag, live->list = list;
            /* A list is written one past its count. */
            flag += p->set[i].width, list += p->set[i].width + (i + 1 == p->sets);
            if (p->set[i].kind != SET_ALL) continue;
            live->count = p->set[i].width;
            for (int c = 0; c < live->count; c++) live->flag[c] = 1, live->list[c] = c;
        }
    return FTWT_OK;
}

static int place_all(ftwt_plan *plan, const sizes *need) {
    const ftwt_program *p = &plan->program;
    plan->start = allocate(plan, p->values, sizeof *plan->start);
    plan->scratch = allocate(plan, plan->threads, sizeof *plan->scratch);
    plan->share = allocate(plan, plan->threads, sizeof *plan->share);
    plan->packed_sample = need->packed;
    const int64_t places = most(p->batch, plan->threads);
    plan->packed = allocate_floats(plan, need->packed * places + SLACK);
    plan->pooled = allocate_floats(plan, need->pooled * p->batch);
    plan->part = allocate_floats(plan, MOST_PIECES * need->pooled * p->batch);
    plan->less = allocate_floats(plan, p->batch);
    plan->block = allocate(plan, need->filters * p->batch, sizeof *plan->block);
    plan->run = allocate(plan, p->batch + 1, sizeof *plan->run);
    plan->few = allocate(plan, p->batch, sizeof *plan->few);
    int32_t *list = allocate(plan, need->channels * p->batch, sizeof *list);
    const int64_t sharing = (p->batch + SHARING - 1) / SHARING;
    plan->shared = allocate(plan, sharing, sizeof *plan->shared);
    int32_t *shared = allocate(plan, need->channels * sharing, sizeof *shared);
    plan->counting = allocate(plan, need->channels, sizeof *plan->counting);
    plan->scratch_plane = need->plane + SLACK;
    plan->scratch_vector = (need->channels + SLACK) / 16 * 16;
    int64_t one = plan->scratch_plane + need->results + 4 * plan->scratch_vector + SLACK;
    float *scratch = allocate_floats(plan, one * plan->threads);
    if (!plan->start || !plan->scratch || !plan->share || !plan->packed || !plan->pooled ||
        !plan->part || !plan->less || !plan->block || !plan->run || !plan->counting || !scratch ||
        !plan->few || !list || !plan->shared || !shared)
        return FTWT_MEMORY;
    for (int t = 0; t < plan->threads; t++, scratch += one) {
        plan->scratch[t].vector = scratch;
        plan->scratch[t].plane = scratch + 4 * plan->scratch_vector;
        plan->scratch[t].packed = plan->packed + t * need->packed;
    }
    for (int c = 0; c < need->channels; c++) plan->counting[c] = c;
    for (int i = 0; i < p->batch; i++) plan->few[i].list = list + i * need->channels;
    for (int i = 0; i < sharing; i++) plan->shared[i].list = shared + i * need->channels;
    for (int i = 0; i < p->values; i++) plan->start[i] = plan->arena + p->value[i].offset;
    return place_sets(plan);
}

static void gather_weights(const ftwt_plan *plan) {
    const ftwt_program *p = &plan->program;
    for (int i = 0; i < p->steps; i++) {
        int64_t floats[5];
        ftwt_extents(p, &p->step[i], floats);
        ftwt_gather_pages(p->step[i].weight, floats[0] * (int64_t)sizeof(float));
    }
    ftwt_gather_pages(plan->arena, p->arena * (int64_t)sizeof(float));
}

static ftwt_plan *begin(
    const ftwt_program *program, const ftwt_kernels *kernels, int first, int threads
) {
    ftwt_plan *new = calloc(1, sizeof *new);
    if (!new) return 0;
    new->program = *program;
    new->first = first, new->whole = program->batch;
    new->kernels = kernels;
    new->threads = threads;
    return new;
}

/* Leaves a plan `count` samples, laid out as all were. */
static int narrow(ftwt_plan *plan, int count) {
    ftwt_program *p = &plan->program;
    ftwt_value *value = allocate(plan, p->values, sizeof *value);
    if (!value) return FTWT_MEMORY;
    memcpy(value, p->value, (size_t)p->values * sizeof *value);
    for (int i = 0; i < p->values; i++) value[i].offset = value[i].offset / p->batch * count;
    p->value = value;
    p->arena = p->arena / p->batch * count;
    p->batch = count;
    return FTWT_OK;
}

static int complete(ftwt_plan *plan, float *arena) {
    sizes need = {0};
    plan->arena = arena;
    plan->layout = allocate(plan, plan->program.steps, sizeof *plan->layout);
    plan->link = allocate(plan, plan->program.steps, sizeof *plan->link);
    int failed = plan->layout && plan->link ? arrange_steps(plan, &need) : FTWT_MEMORY;
    if (failed) return failed;
    link_steps(plan, &need);
    return place_all(plan, &need);
}

/* Whether each thread takes samples of its own through all steps: where none of them has much less to
 * do than others. Then no thread waits for another's planes, nor reads what another core made. What
 * is laid out must be so for each sample alike. */
static int splits(const ftwt_program *program, int threads) {
    const int64_t batch = program->batch, each = (batch + threads - 1) / threads;
    int even = program->arena % batch == 0;
    for (int i = 0; i < program->values; i++) even &= program->value[i].offset % batch == 0;
    return even && threads > 1 && batch >= threads && each * threads * 5 <= batch * 6;
}

static int split(ftwt_plan *plan) {
    const int threads = plan->threads, batch = plan->program.batch;
    plan->view = allocate(plan, threads, sizeof *plan->view);
    if (!plan->view) return FTWT_MEMORY;
    for (int t = 0; t < threads; t++) {
        const int first = (int)((int64_t)batch * t / threads);
        const int count = (int)((int64_t)batch * (t + 1) / threads) - first;
        ftwt_plan *view = begin(&plan->program, plan->kernels, first, 1);
        if (!view) return FTWT_MEMORY;
        plan->view[plan->views++] = view;
        int failed = narrow(view, count);
        if (!failed) failed = complete(view, plan->arena + plan->program.arena / batch * first);
        if (failed) return failed;
    }
    return FTWT_OK;
}

int ftwt_prepare(const ftwt_program *program, const char *set, int threads, ftwt_plan **plan) {
    *plan = 0;
    if (threads < 1 || !ftwt_holds(program)) return FTWT_PROGRAM;
    const ftwt_kernels *kernels = ftwt_kernels_of(set);
    if (!kernels) return FTWT_PROGRAM;
    ftwt_plan *new = begin(program, kernels, 0, threads);
    if (!new) return FTWT_MEMORY;
    new->arena = allocate_floats(new, program->arena + SLACK);
    int failed = FTWT_MEMORY;
    if (new->arena) failed = splits(program, threads) ? split(new) : complete(new, new->arena);
    if (!failed) gather_weights(new);
    if (failed)
        ftwt_release(new);
    else
        *plan = new;
    return failed;
}

void ftwt_release(ftwt_plan *plan) {
    if (!plan) return;
    for (int i = 0; i < plan->views; i++) ftwt_release(plan->view[i]);
    for (int i = 0; plan->layout && i < plan->program.steps; i++) {
        free(plan->layout[i].valid);
        free(plan->layout[i].place);
        free(plan->layout[i].order);
        free(plan->layout[i].from);
    }
    while (plan->memory) {
        void *last = plan->memory;
        plan->memory = *(void **)last;
        free(last);
    }
    free(plan);
}
