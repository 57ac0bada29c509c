/* Whether a program is consistent, so that the kernels need not ask. */
#include "check.h"

#include "engine.h"

#define NEED(condition) \
    if (!(condition)) return 0

static int64_t size_of(const ftwt_value *v) {
    return (int64_t)v->height * v->width;
}

static int64_t padded(int64_t size, const ftwt_window *w, int axis) {
    return size + 2 * (int64_t)w->padding[axis];
}

/* 0 where the window is larger than what it slides over. */
static int64_t windowed(int64_t size, const ftwt_window *w, int axis) {
    const int64_t room = padded(size, w, axis), reach = w->dilation[axis] * (w->kernel[axis] - 1ll);
    return room > reach ? (room - reach - 1) / w->stride[axis] + 1 : 0;
}

static int window_holds(const ftwt_window *w) {
    for (int axis = 0; axis < 2; axis++)
        NEED(
            w->kernel[axis] > 0 && w->kernel[axis] <= MOST_SIDE && w->stride[axis] > 0 &&
            w->stride[axis] <= MOST_SIDE && w->padding[axis] >= 0 &&
            w->padding[axis] <= MOST_SIDE && w->dilation[axis] > 0 && w->dilation[axis] <= MOST_SIDE
        );
    return 1;
}

/* Whether a plane with its zeros, cut into as many phases as it has strides, has room. */
static int plane_holds(const ftwt_value *in, const ftwt_window *w) {
    return (padded(in->height, w, 0) + w->stride[0]) * (padded(in->width, w, 1) + w->stride[1]) <=
           MOST_PLANE;
}

/* A window has at least one position inside. */
static int pooling_holds(const ftwt_window *w, int out_width) {
    NEED(w->padding[0] < w->kernel[0] && w->padding[1] < w->kernel[1]);
    return (int64_t)(out_width - 1) * w->stride[1] + w->kernel[1] <= POOL_ROW;
}

/* Whether pooling leaves so many rows or columns: of maxima also one more, whose windows begin inside
 * and end outside, as ceil_mode has them. */
static int pooled_to(int64_t out, int64_t size, const ftwt_step *s, int axis) {
    const ftwt_window *w = &s->pooling;
    const int64_t whole = windowed(size, w, axis);
    if (out == whole) return 1;
    return s->pool == POOL_MAX && out == whole + 1 &&
           (out - 1) * w->stride[axis] - w->padding[axis] < size;
}

static int value_holds(const ftwt_program *p, const ftwt_value *v) {
    NEED(v->channels > 0 && v->height > 0 && v->width > 0 && v->channels <= MOST_CHANNELS);
    NEED(size_of(v) <= MOST_FLOATS && size_of(v) * v->channels <= MOST_FLOATS);
    NEED(v->set >= 0 && v->set < p->sets && p->set[v->set].width == v->channels);
    int64_t all = size_of(v) * v->channels * p->batch;
    switch (v->place) {
    case PLACE_ARENA: return v->offset >= 0 && v->offset <= p->arena - all;
    /* An offset means nothing there, but is multiplied by the batch all the same. */
    case PLACE_INPUT: return !v->offset && v->number >= 0 && v->number < p->inputs;
    case PLACE_OUTPUT: return !v->offset && v->number >= 0 && v->number < p->outputs;
    default: return 0;
    }
}

static int set_holds(const ftwt_program *p, int number) {
    const ftwt_set *set = &p->set[number];
    int64_t width = 0;
    NEED(set->width > 0 && set->width <= MOST_FLOATS && set->before >= 0);
    NEED(number == 0 || set->before >= p->set[number - 1].before);
    for (int i = 0; i < set->parts; i++) {
        NEED(set->part[i] >= 0 && set->part[i] < number);
        int part = p->set[set->part[i]].width;
        width += part;
        if (set->kind == SET_UNION || set->kind == SET_INTERSECTION) NEED(part == set->width);
    }
    switch (set->kind) {
    case SET_ALL: return 1;
    case SET_GIVEN: return set->number >= 0 && set->number < p->given;
    case SET_MADE: return set->number >= 0 && set->number < p->made;
    case SET_UNION:
    case SET_INTERSECTION: return set->parts > 0;
    case SET_CONCAT: return width == set->width;
    case SET_REORDER:
        NEED(set->parts == 1 && set->index);
        for (int i = 0; i < set->width; i++) NEED(set->index[i] >= 0 && set->index[i] <= width);
        return 1;
    default: return 0;
    }
}

static int convolution_holds(
    const ftwt_step *s, const ftwt_value *in, const ftwt_value *out, int filters
) {
    NEED(window_holds(&s->window) && s->groups > 0 && s->weight && s->bias);
    NEED(in->channels % s->groups == 0 && filters % s->groups == 0 && out->channels == filters);
    const int64_t taps = (int64_t)s->window.kernel[0] * s->window.kernel[1];
    NEED(taps <= MOST_TAPS && s->row >= in->channels / s->groups * taps);
    NEED(plane_holds(in, &s->window));
    NEED(s->middle[0] == windowed(in->height, &s->window, 0) && s->middle[0] > 0);
    NEED(s->middle[1] == windowed(in->width, &s->window, 1) && s->middle[1] > 0);
    if (s->pool == POOL_NONE) return s->middle[0] == out->height && s->middle[1] == out->width;
    NEED(s->pool != POOL_MEAN_STD);
    NEED(window_holds(&s->pooling) && pooling_holds(&s->pooling, out->width));
    return pooled_to(out->height, s->middle[0], s, 0) && pooled_to(out->width, s->middle[1], s, 1);
}

static int pick_holds(const ftwt_step *s, const ftwt_value *in, const ftwt_value *out) {
    NEED(s->index && s->window.stride[0] > 0 && s->window.stride[1] > 0);
    NEED((out->height - 1ll) * s->window.stride[0] < in->height);
    NEED((out->width - 1ll) * s->window.stride[1] < in->width);
    NEED(s->window.stride[1] > 1 || s->window.stride[0] > 1 || size_of(in) == size_of(out));
    for (int i = 0; i < out->channels; i++)
        NEED(s->index[i] >= 0 && s->index[i] <= in->channels);
    return 1;
}

static int step_holds(const ftwt_program *p, const ftwt_step *s) {
    NEED(s->made >= 0 && s->made < p->sets && s->sources > 0);
    for (int i = 0; i < s->sources; i++) NEED(s->source[i] >= 0 && s->source[i] < p->values);
    const ftwt_value *in = &p->value[s->source[0]];
    const int made = p->set[s->made].width;
    NEED(s->activation >= ACT_NONE && s->activation <= ACT_SIGMOID);
    NEED(s->pool >= POOL_NONE && s->pool <= POOL_MEAN_STD);
    NEED(s->normalize >= NORM_NONE && s->normalize <= NORM_LAYER);
    NEED(s->rank >= 0 && s->rank <= MOST_CHANNELS);
    if (s->kind == STEP_TABLE || s->kind == STEP_GATE || s->kind == STEP_FOLLOW)
        NEED(s->output < 0);
    if (s->kind == STEP_TABLE) return s->weight && s->rank > 0 && p->set[s->made].kind == SET_MADE;
    if (s->kind == STEP_GATE) {
        NEED(s->weight && s->bias && p->set[s->made].kind == SET_MADE);
        NEED(s->reads >= 0 && s->reads < p->sets);
        NEED(p->set[s->reads].width == (s->pool == POOL_MEAN_STD ? 2 : 1) * in->channels);
        return s->rank ? s->weight2 && s->bias2 : s->rows != 0;
    }
    if (s->kind == STEP_FOLLOW) return p->set[s->made].kind == SET_MADE && in->channels == made;
    NEED(s->output >= 0 && s->output < p->values);
    const ftwt_value *out = &p->value[s->output];
    NEED(out->place != PLACE_INPUT && out->channels == made);
    switch (s->kind) {
    case STEP_CONV: return convolution_holds(s, in, out, made);
    case STEP_LINEAR:
        NEED(s->weight && s->bias && s->reads >= 0 && s->reads < p->sets && size_of(out) == 1);
        return p->set[s->reads].width == in->channels * size_of(in);
    case STEP_MASK:
        NEED(s->reads >= 0 && s->reads < p->sets && p->set[s->reads].width == made);
        return in->channels == made && size_of(in) == size_of(out);
    case STEP_AFFINE:
        NEED(s->rows && s->bias);
        return in->channels == made && size_of(in) == size_of(out);
    case STEP_ADD:
        for (int i = 0; i < s->sources; i++) {
            const ftwt_value *one = &p->value[s->source[i]];
            NEED(one->channels == made && size_of(one) == size_of(out));
        }
        return 1;
    case STEP_MULTIPLY: {
        NEED(s->sources == 2);
        const ftwt_value *two = &p->value[s->source[1]];
        NEED(in->channels == made && two->channels == made && size_of(in) == size_of(out));
        return size_of(two) == size_of(out) || size_of(two) == 1;
    }
    case STEP_POOL:
        NEED(in->channels == made);
        if (s->pooling.kernel[0] == 0) return size_of(out) == 1;
        NEED(window_holds(&s->pooling) && s->pool != POOL_NONE && s->pool != POOL_MEAN_STD);
        NEED(pooling_holds(&s->pooling, out->width));
        return pooled_to(out->height, in->height, s, 0) && pooled_to(out->width, in->width, s, 1);
    case STEP_PICK: return pick_holds(s, in, out);
    case STEP_CONCAT: {
        int64_t channels = 0;
        for (int i = 0; i < s->sources; i++) {
            channels += p->value[s->source[i]].channels;
            NEED(size_of(&p->value[s->source[i]]) == size_of(out));
        }
        return channels == made;
    }
    case STEP_ACTIVATE: return in->channels == made && size_of(in) == size_of(out);
    default: return 0;
    }
}

int ftwt_holds(const ftwt_program *p) {
    NEED(p->batch > 0 && p->batch <= MOST_FLOATS && p->arena >= 0);
    NEED(p->values > 0 && p->sets > 0 && p->steps > 0);
    for (int i = 0; i < p->sets; i++) NEED(set_holds(p, i));
    for (int i = 0; i < p->values; i++) NEED(value_holds(p, &p->value[i]));
    for (int i = 0; i < p->steps; i++) NEED(step_holds(p, &p->step[i]));
    return 1;
}
