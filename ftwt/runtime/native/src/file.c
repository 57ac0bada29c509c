/* Reading a file that may be cut off, damaged or made to do harm. */
#include "file.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "engine.h"
#include "extents.h"

_Static_assert(sizeof(void *) == sizeof(int64_t), "addresses of 64 bits stand in place of places");
_Static_assert(offsetof(ftwt_file, size) == FILE_CHECKED, "the checksum begins after itself");

/* What no network needs more of: settings, reductions, channels of all sets, and positions of all
 * planes that are convolved. A file made to do harm asks for more than there is memory. */
enum { MOST_SETTINGS = 64, MOST_POINTS = 1 << 16, MOST_WIDTH = 1 << 26, MOST_POSITIONS = 1 << 28 };

#define NEED(condition, text) \
    if (!(condition)) return text

const char *ftwt_line(const char *format, ...) {
    static _Thread_local char line[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    return line;
}

static uint32_t checksum(const unsigned char *bytes, int64_t size) {
    uint32_t table[256], sum = 0xffffffff;
    for (uint32_t i = 0; i < 256; i++) {
        table[i] = i;
        for (int bit = 0; bit < 8; bit++)
            table[i] = table[i] & 1 ? table[i] >> 1 ^ 0xedb88320 : table[i] >> 1;
    }
    for (int64_t i = 0; i < size; i++) sum = sum >> 8 ^ table[(sum ^ bytes[i]) & 0xff];
    return ~sum;
}

static const char damaged[] = "the file is damaged: a place lies outside of it";

/* Turns the place at `field` into the address of `count` things of `each` bytes. */
static const char *
resolve(const ftwt_contents *all, void *field, int64_t count, int64_t each) {
    int64_t place;
    memcpy(&place, field, sizeof place);
    NEED(place > 0 && place % 8 == 0 && place <= all->head.size && count >= 0, damaged);
    NEED(count <= (all->head.size - place) / each, damaged);
    const void *address = all->bytes + place;
    memcpy(field, &address, sizeof address);
    return 0;
}

/* As above where there may be none. */
static const char *
resolve_any(const ftwt_contents *all, void *field, int64_t count, int64_t each) {
    int64_t place;
    memcpy(&place, field, sizeof place);
    return place ? resolve(all, field, count, each) : 0;
}

/* A copy of what `*from` points to, which may be changed: one struct of a file made to do harm may
 * lie in another. */
static void *copied(ftwt_contents *all, const void *from, int64_t count, size_t each) {
    const size_t size = (size_t)count * each;
    void **memory = malloc(2 * sizeof *memory + size);
    if (!memory) return 0;
    memory[0] = all->memory;
    all->memory = memory;
    return memcpy(memory + 2, from, size);
}

#define TRY(call) \
    do { \
        const char *wrong_ = (call); \
        if (wrong_) return wrong_; \
    } while (0)
#define RESOLVE(FIELD, COUNT) TRY(resolve(all, &(FIELD), COUNT, sizeof *(FIELD)))
#define COPY(FIELD, COUNT) \
    do { \
        RESOLVE(FIELD, COUNT); \
        (FIELD) = copied(all, FIELD, COUNT, sizeof *(FIELD)); \
        NEED(FIELD, "out of memory"); \
    } while (0)

/* Whole numbers that the check of a program looks at, so before that. */
static const char *resolve_numbers(ftwt_contents *all, ftwt_program *p) {
    static const char wrong[] = "the file is damaged: its steps contradict each other";
    NEED(p->values > 0 && p->sets > 0 && p->steps > 0, wrong);
    COPY(p->value, p->values);
    COPY(p->set, p->sets);
    COPY(p->step, p->steps);
    for (int i = 0; i < p->sets; i++) {
        ftwt_set *set = (ftwt_set *)&p->set[i];
        NEED(set->parts >= 0, wrong);
        if (set->parts) RESOLVE(set->part, set->parts);
        if (set->kind == SET_REORDER) RESOLVE(set->index, set->width);
    }
    for (int i = 0; i < p->steps; i++) {
        ftwt_step *step = (ftwt_step *)&p->step[i];
        NEED(step->sources > 0, wrong);
        RESOLVE(step->source, step->sources);
        if (step->kind != STEP_PICK) continue;
        NEED(step->output >= 0 && step->output < p->values, wrong);
        RESOLVE(step->index, p->value[step->output].channels);
    }
    return 0;
}

static const char *resolve_weights(ftwt_contents *all, const ftwt_program *p) {
    for (int i = 0; i < p->steps; i++) {
        ftwt_step *step = (ftwt_step *)&p->step[i];
        const float **field[] = {
            &step->weight, &step->bias, &step->rows, &step->weight2, &step->bias2
        };
        int64_t floats[5];
        ftwt_extents(p, step, floats);
        for (int k = 0; k < 5; k++)
            if (floats[k])
                TRY(resolve(all, field[k], floats[k], sizeof(float)));
            else
                *field[k] = 0;
    }
    return 0;
}

static int64_t floats_of(const int32_t shape[3]) {
    return (int64_t)shape[0] * shape[1] * shape[2];
}

/* Whether what comes in and goes out is what the head says. */
static int border_holds(const ftwt_file *head, const ftwt_program *p) {
    int seen = 0;
    for (int i = 0; i < p->values; i++) {
        const ftwt_value *v = &p->value[i];
        if (v->place == PLACE_ARENA) continue;
        const int32_t *shape = v->place == PLACE_INPUT ? head->input : head->output;
        if ((int64_t)v->channels * v->height * v->width != floats_of(shape)) return 0;
        seen |= v->place == PLACE_INPUT ? 1 : 2;
    }
    return seen == 3;
}

/* Whether memory for all of a program that holds is no more than networks need. */
static int is_modest(const ftwt_program *p) {
    int64_t width = 0, positions = 0;
    for (int i = 0; i < p->sets; i++) width += p->set[i].width;
    for (int i = 0; i < p->steps; i++) {
        const ftwt_step *s = &p->step[i];
        if (s->kind != STEP_CONV) continue;
        const ftwt_value *in = &p->value[s->source[0]];
        positions += (in->height + 2ll * s->window.padding[0]) *
                     (in->width + 2ll * s->window.padding[1]);
    }
    return p->arena <= MOST_FLOATS && width <= MOST_WIDTH && positions <= MOST_POSITIONS;
}

static const char *resolve_setting(ftwt_contents *all, ftwt_setting *setting) {
    static const char wrong[] = "the file is damaged: its steps contradict each other";
    ftwt_program *p = &setting->program;
    NEED(p->batch == 1 && p->inputs == 1 && p->outputs == 1 && p->given == 0, wrong);
    TRY(resolve_numbers(all, p));
    NEED(p->made >= 0 && p->made <= p->steps, wrong);
    NEED(ftwt_holds(p) && border_holds(&all->head, p), wrong);
    NEED(is_modest(p), "the file asks for more memory than any network");
    TRY(resolve_weights(all, p));
    RESOLVE(setting->thresholds, p->steps);
    return 0;
}

static int shape_holds(const int32_t shape[3]) {
    int64_t floats = 1;
    for (int i = 0; i < 3; i++) {
        if (shape[i] < 1) return 0;
        floats *= shape[i];
        if (floats > MOST_FLOATS) return 0;
    }
    return 1;
}

static int decisions(const ftwt_program *p) {
    int many = 0;
    for (int i = 0; i < p->steps; i++) many += ftwt_decides(&p->step[i]);
    return many;
}

static const char *resolve_all(ftwt_contents *all) {
    ftwt_file *head = &all->head;
    static const char wrong[] = "the file is damaged: its head contradicts itself";
    NEED(shape_holds(head->input) && shape_holds(head->output), wrong);
    NEED(head->settings > 0 && head->settings <= MOST_SETTINGS, wrong);
    NEED(head->weight > 0 && head->weight <= 1, wrong);
    NEED(!head->mirror || (head->mirror == 1 && head->output[1] * head->output[2] == 1), wrong);
    COPY(head->setting, head->settings);
    for (int i = 0; i < head->settings; i++)
        TRY(resolve_setting(all, (ftwt_setting *)&head->setting[i]));
    const int others = head->settings - 1;
    if (others) {
        RESOLVE(head->signal, others);
        RESOLVE(head->sure, others);
        for (int i = 0; i < others; i++)
            NEED(head->signal[i].kind >= SIGNAL_MARGIN && head->signal[i].kind <= SIGNAL_ENTROPY &&
                     head->signal[i].temperature > 0,
                 wrong);
        NEED(head->output[0] > 1, wrong);
    }
    NEED(head->points >= 0 && head->points <= MOST_POINTS, wrong);
    if (head->points) {
        NEED(head->limits == (others ? others : decisions(&head->setting->program)), wrong);
        RESOLVE(head->point, head->points * (1 + (int64_t)head->limits));
    }
    TRY(resolve_any(all, &head->scale, 2 * (int64_t)head->input[0], sizeof *head->scale));
    TRY(resolve_any(all, &head->classes, head->classes_bytes, 1));
    if (head->classes) {
        int64_t names = 0;
        for (int64_t i = 0; i < head->classes_bytes; i++) names += !head->classes[i];
        NEED(names == head->output[0] && !head->classes[head->classes_bytes - 1], wrong);
    }
    return 0;
}

static const char *check_head(const ftwt_file *head, int64_t size) {
    NEED(size >= (int64_t)sizeof *head, "this is no network of ftwt, or its begin alone");
    NEED(!memcmp(head->magic, "ftwt\r\n\x1a\n", sizeof head->magic), "this is no network of ftwt");
    NEED(head->order == 0x01020304, "the file is for a processor with another order of bytes");
    if (head->version != FILE_VERSION || head->program != FTWT_FORMAT)
        return ftwt_line(
            "the file has version %u.%u, this libftwt reads %d.%d; export the network again, or use "
            "the sources that were exported with it",
            head->version, head->program, FILE_VERSION, FTWT_FORMAT
        );
    if (head->lanes != MOST_LANES || head->tile != TILE)
        return ftwt_line(
            "the file's weights are laid out by %u and %u, this libftwt reads %d and %d; export the "
            "network again, or use the sources that were exported with it",
            head->lanes, head->tile, MOST_LANES, TILE
        );
    if (head->size != size)
        return ftwt_line(
            "the file has %lld bytes, but should have %lld; copy or export it again",
            (long long)size, (long long)head->size
        );
    return 0;
}

static const char *load(FILE *file, ftwt_contents *all) {
    NEED(!fseek(file, 0, SEEK_END), "the file cannot be read");
    const int64_t size = ftell(file);
    NEED(size >= 0 && !fseek(file, 0, SEEK_SET), "the file cannot be read");
    if (size >= (int64_t)sizeof all->head) {
        NEED(fread(&all->head, sizeof all->head, 1, file) == 1, "the file cannot be read");
        rewind(file);
    }
    TRY(check_head(&all->head, size));
    /* Whole cache lines, so that the file's own begin in one. */
    all->bytes = aligned_alloc(64, ((size_t)size + 127) / 64 * 64);
    NEED(all->bytes, "out of memory");
    NEED(fread(all->bytes, 1, (size_t)size, file) == (size_t)size, "the file cannot be read");
    NEED(checksum(all->bytes + FILE_CHECKED, size - FILE_CHECKED) == all->head.checksum,
         "the file is damaged: its checksum differs; copy or export it again");
    return resolve_all(all);
}

const char *ftwt_read(const char *path, ftwt_contents *contents) {
    *contents = (ftwt_contents){0};
    FILE *file = fopen(path, "rb");
    NEED(file, "the file cannot be opened");
    const char *wrong = load(file, contents);
    fclose(file);
    if (wrong) ftwt_forget(contents);
    return wrong;
}

void ftwt_forget(ftwt_contents *contents) {
    while (contents->memory) {
        void *last = contents->memory;
        contents->memory = *(void **)last;
        free(last);
    }
    free(contents->bytes);
    contents->bytes = 0;
}
