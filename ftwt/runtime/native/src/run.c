/* Running a prepared program: one phase after the other, each shared out among the threads. */
#include <limits.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine.h"
#include "extents.h"
#include "live.h"
#include "team.h"

enum { FILL_CHANNELS = 16, PIECES_PER_THREAD = 4, STRIPS_PER_THREAD = 1 };

/* Of a gate that one thread decides: about what it does while threads meet. */
enum { ALONE_MACS = 1 << 14 };

/* So many keep threads about equally long at work. */
enum { SAMPLES_PER_THREAD = 4 };

/* Bytes of a core's second cache, where the system tells; of it a half is for weights, a quarter for
 * inputs. */
static int64_t second_cache(void) {
    static int64_t bytes;
    int64_t known = __atomic_load_n(&bytes, __ATOMIC_RELAXED);
    if (known) return known;
#if defined(_SC_LEVEL2_CACHE_SIZE)
    known = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
    if (known <= 0) known = 1 << 19;
    __atomic_store_n(&bytes, known, __ATOMIC_RELAXED);
    return known;
}

typedef struct {
    ftwt_plan *plan;
    const float *thresholds;
    int64_t *executed, *nanoseconds;
    int64_t since;
    ftwt_barrier barrier;
    /* What is done together is shared out as for so many threads, whether they come or not: rounding
     * does not depend on that. */
    int threads;
    int team; /* that came */
    /* The phase at hand: step, place among its phases, items; those from `pass` on take planes as they
     * are, those from `fill` on zero them. */
    int step, phase, set;
    const ftwt_step *pooled; /* the gate whose inputs are pooled already */
    int pooled_pieces;       /* in so many pieces */
    ftwt_phase *kernel;
    ftwt_work work;
    int64_t chunk, items, pass, fill;
} running;

typedef struct {
    running *run;
    ftwt_scratch *scratch;
} member;

static int least(int one, int two) {
    return one < two ? one : two;
}

static int64_t chunks(int64_t of, int64_t by) {
    return (of + by - 1) / by;
}

/* About what a kernel of so many filters and vectors takes for one input and tap, in twentieths of
 * a cycle, as measured: multiplications, loads of vectors, loads of weights, the rest. */
static double cost(double filters, int vectors) {
    return 10 * filters * vectors + 5 * vectors + 3 * filters + 16;
}

/* Deals the items out, so that each thread has those of the same place in every phase: what it made in
 * one it reads in the next, and another core's cache is far. */
static void deal(running *run) {
    ftwt_share *share = run->plan->share;
    for (int t = 0; t < run->team; t++) {
        share[t].next = run->items * t / run->team;
        share[t].end = run->items * (t + 1) / run->team;
    }
    run->chunk = run->items / (8 * run->team);
    if (run->chunk < 1) run->chunk = 1;
}

/* Most live channels of a set's samples. */
static int most_live(const ftwt_plan *plan, int set) {
    int most = 0;
    for (int sample = 0; sample < plan->program.batch; sample++) {
        const int count = ftwt_live_of(plan, set, sample)->count;
        if (count > most) most = count;
    }
    return most;
}

/* Mean live channels of a set's samples. */
static int64_t mean_live(const ftwt_plan *plan, int set) {
    int64_t live = 0;
    for (int sample = 0; sample < plan->program.batch; sample++)
        live += ftwt_live_of(plan, set, sample)->count;
    return live / plan->program.batch;
}

/* Vectors of all strips of a tall layout together. */
static int64_t vectors_in(const ftwt_layout *layout, int width, int lanes, int strips) {
    int64_t vectors = 0;
    for (int i = 0; i < strips; i++) {
        const int rows = layout->height * (i + 1) / strips - layout->height * i / strips;
        vectors += chunks((rows - 1) * layout->width + width, lanes);
    }
    return vectors;
}

/* Strips of a tall layout: so many that all threads have equally many, and that a strip's inputs stay
 * in the cache, but not so many that vectors are left half empty. Zero where inputs or a sample's
 * weights would not stay in the cache, and where whole samples keep all threads at work. */
static int choose_strips(const running *run) {
    const ftwt_plan *plan = run->plan;
    const ftwt_step *s = run->work.step;
    const ftwt_layout *layout = run->work.layout;
    if (layout->kind != LAYOUT_TALL || run->work.then) return 0;
    const ftwt_value *in = &plan->program.value[s->source[0]];
    const int lanes = plan->kernels->lanes, batch = plan->program.batch;
    if (batch >= SAMPLES_PER_THREAD * run->threads) return 0;
    const int64_t row = (int64_t)in->channels * layout->reads * (int64_t)sizeof(float);
    if (mean_live(plan, s->made) * row > second_cache() / 2) return 0;
    const int64_t bytes = mean_live(plan, in->set) * layout->plane * (int64_t)sizeof(float);
    const int64_t most = run->threads > 1 ? STRIPS_PER_THREAD * run->threads : 1;
    const int64_t least = chunks(bytes, second_cache() / 4), each = chunks(most, batch);
    /* Pooling needs whole planes. */
    const int64_t want = s->pool ? 1 : least > each ? least : each;
    int strips = want < layout->height ? (int)want : layout->height;
    for (; strips > 1; strips--) {
        const int64_t items = (int64_t)batch * strips;
        const int even = items % run->threads == 0 || items > 4 * most;
        if (even && vectors_in(layout, in->width, lanes, strips) * 10 <= layout->vectors * 11) break;
    }
    return strips < least ? 0 : strips;
}

/* How many vectors of positions a kernel makes: what costs least with the filters that there are. */
static void choose_panel(running *run) {
    const ftwt_plan *plan = run->plan;
    const ftwt_program *p = &plan->program;
    int vectors = run->work.layout->vectors;
    if (run->work.strips > 1) vectors = (int)chunks(vectors, run->work.strips);
    int64_t filters = 0;
    for (int sample = 0; sample < p->batch; sample++)
        filters += ftwt_live_of(plan, run->work.step->made, sample)->count;
    const double each = (double)filters / p->batch / run->work.step->groups;
    double least = 0;
    const int widest =
        run->work.layout->inside[1] ? plan->kernels->masked_vectors : MOST_VECTORS;
    for (int panel = 1; panel <= widest && plan->kernels->filters[panel]; panel++) {
        const int most = plan->kernels->filters[panel], whole = vectors / panel;
        const double blocks = each <= most ? 1 : __builtin_ceil(each / most);
        double costs = whole * cost(each / blocks, panel);
        if (vectors % panel) costs += cost(each / blocks, vectors % panel);
        costs *= blocks;
        if (least == 0 || costs < least) {
            least = costs;
            run->work.panel = panel;
        }
    }
    run->work.panels = (int)chunks(run->work.layout->vectors, run->work.panel);
}

/* The first place from `place` on in a sample's list of a channel from `channel` on. */
static int first_from(const ftwt_live *live, int place, int channel) {
    if (live->count && live->list[live->count - 1] < channel) return live->count;
    while (place < live->count && live->list[place] < channel) place++;
    return place;
}

/* How many blocks of one sample follow each other: as many as have weights that stay in the cache,
 * so that neither these are read again for each sample nor the sample's inputs for each block. */
static int choose_band(const running *run) {
    const ftwt_program *p = &run->plan->program;
    const ftwt_step *s = run->work.step;
    const int64_t most = run->plan->kernels->filters[run->work.panel];
    int64_t kept = 0, width = p->set[s->made].width;
    for (int sample = 0; sample < p->batch; sample++)
        kept += ftwt_live_of(run->plan, s->made, sample)->count;
    const int64_t row = p->value[s->source[0]].channels / s->groups * run->work.layout->reads * 4;
    /* A block's filters lie among others that this sample skips. */
    const int64_t block = most * row * width * p->batch / (kept ? kept : 1);
    const int64_t room = second_cache() / 2;
    return block < room ? (int)(room / block) : 1;
}

/* Whether threads share a step's positions rather than its channels: where planes are too large for
 * a core's cache, and no thread has a sample for itself. Then each has the same rows in every step. */
static int shares_space(const running *run, int made, int64_t positions) {
    return run->plan->program.batch < run->threads &&
           mean_live(run->plan, made) * positions * (int64_t)sizeof(float) > second_cache() / 2;
}

/* Bands of rows that a depthwise convolution is done in. */
static int choose_bands(const running *run) {
    const ftwt_step *s = run->work.step;
    const int64_t positions = (int64_t)s->middle[0] * s->middle[1];
    const int fits = run->work.layout->kind == LAYOUT_ROLLING && !s->pool;
    return fits && shares_space(run, s->made, positions) ? least(run->threads, s->middle[0]) : 1;
}

/* Whether what the next gate pools can be pooled piece by piece. */
static int pools_in_pieces(const running *run) {
    const ftwt_step *gate = run->work.gate;
    /* Pieces of a tall layout that are no strips are columns of four rows. */
    const int apart = run->work.layout->kind != LAYOUT_TALL || run->work.strips;
    return run->work.pieces <= MOST_PIECES && apart && gate && gate->pool != POOL_MEAN_STD;
}

/* Puts together what was pooled of a gate's input in pieces. */
static void gather_pieces(const running *run) {
    const ftwt_program *p = &run->plan->program;
    const ftwt_step *gate = run->work.step;
    const int64_t all = (int64_t)p->set[gate->reads].width * p->batch;
    float *pooled = run->plan->pooled;
    memcpy(pooled, run->plan->part, (size_t)all * sizeof(float));
    for (int piece = 1; piece < run->pooled_pieces; piece++) {
        const float *part = run->plan->part + piece * all;
        if (gate->pool == POOL_MAX)
            for (int64_t i = 0; i < all; i++)
                /* What is no number stays. */
                pooled[i] = part[i] > pooled[i] || part[i] != part[i] ? part[i] : pooled[i];
        else
            for (int64_t i = 0; i < all; i++) pooled[i] += part[i];
    }
}

/* Ranges of space that blocks are done in: enough for all threads, and so small that a range of all
 * inputs stays in the cache while a run of blocks goes over it. */
static int choose_pieces(const running *run) {
    const ftwt_plan *plan = run->plan;
    const ftwt_step *s = run->work.step;
    /* Pooling, and what goes on with a plane, needs it whole. */
    if (s->pool || run->work.then || !run->work.blocks) return 1;
    const int want = run->threads > 1 ? PIECES_PER_THREAD * run->threads : 1;
    int64_t live = 0;
    for (int sample = 0; sample < plan->program.batch; sample++)
        live += ftwt_live_in(plan, s->source[0], sample)->count;
    const int64_t bytes = live / plan->program.batch * run->work.layout->plane * 4;
    int64_t pieces = chunks(want, run->work.blocks);
    const int64_t least = chunks(bytes, second_cache() / 4);
    if (pieces < least) pieces = least;
    const int64_t positions = (int64_t)s->middle[0] * s->middle[1];
    if (pieces < run->threads && shares_space(run, s->made, positions)) pieces = run->threads;
    return (int)(pieces < run->work.panels ? pieces : run->work.panels);
}

/* Groups of filters that one kernel makes: bands of them, in each band sample by sample. Returns how
 * many bands. */
static int make_blocks(running *run) {
    ftwt_plan *plan = run->plan;
    const ftwt_program *p = &plan->program;
    const ftwt_step *s = run->work.step;
    run->work.strips = choose_strips(run);
    if (run->work.strips)
        run->work.parts = (int)chunks(run->team, (int64_t)run->work.strips * p->batch);
    choose_panel(run);
    const int most = plan->kernels->filters[run->work.panel];
    const int band = run->work.strips ? INT_MAX / 2 : choose_band(run);
    const int per_filters = p->set[s->made].width / s->groups;
    const int per_inputs = p->value[s->source[0]].channels / s->groups;
    /* Blocks that are not done in pieces, of few samples, are as many for each thread. */
    const int whole = (s->pool || run->work.then) && p->batch < run->threads && s->groups == 1;
    ftwt_block *block = plan->block;
    int bands = 0;
    for (int from = 0, more = 1; more; from += band, bands++) {
        more = 0;
        for (int sample = 0; sample < p->batch; sample++) {
            if (!bands) plan->run[sample] = (int)(block - plan->block);
            const ftwt_live *made = ftwt_live_of(plan, s->made, sample);
            const ftwt_live *live = ftwt_live_in(plan, s->source[0], sample);
            ftwt_block *begin = block;
            int filter = 0, input = 0;
            for (int group = 0; group < s->groups; group++) {
                int filters = filter, inputs = input;
                filter = first_from(made, filter, (group + 1) * per_filters);
                input = first_from(live, input, (group + 1) * per_inputs);
                int count = filter - filters, blocks = (int)chunks(count, most);
                if (whole && blocks < PIECES_PER_THREAD * run->threads)
                    blocks = least((int)chunks(blocks, run->threads) * run->threads, count);
                more |= from + band < blocks;
                for (int round = from; round < from + band && round < blocks; round++) {
                    int first = count * round / blocks, last = count * (round + 1) / blocks;
                    *block++ = (ftwt_block){
                        .sample = sample,
                        .first = filters + first,
                        .filters = last - first,
                        .first_input = inputs,
                        .inputs = input - inputs,
                        .group = group,
                        .run = (int)(begin - plan->block),
                    };
                }
            }
            for (ftwt_block *one = begin; one < block; one++)
                one->run_blocks = (int)(block - begin);
        }
    }
    run->work.block = plan->block;
    run->work.blocks = (int)(block - plan->block);
    plan->run[p->batch] = run->work.blocks;
    run->work.pieces = run->work.strips ? run->work.strips : choose_pieces(run);
    if (run->work.pieces > 1 && !pools_in_pieces(run)) run->work.gate = 0;
    /* Where all weights together stay in the cache, and where positions or samples share them, asking
     * for them only takes time. */
    run->work.streams = run->work.panels == 1 && p->batch < SHARING &&
                        plan->weights > second_cache() / 2;
    return bands;
}

/* With few positions and 1x1 kernels: the groups of inputs with a live one among them. */
static void group_inputs(running *run) {
    ftwt_plan *plan = run->plan;
    const ftwt_step *s = run->work.step;
    const int share = plan->kernels->share;
    for (int sample = 0; sample < plan->program.batch; sample++) {
        const ftwt_live *live = ftwt_live_in(plan, s->source[0], sample);
        ftwt_live *few = &plan->few[sample];
        few->count = 0;
        for (int j = 0; j < live->count; j++) {
            int one = run->work.layout->taps == 1 ? live->list[j] / share : live->list[j];
            if (!few->count || few->list[few->count - 1] != one) few->list[few->count++] = one;
        }
    }
}

static void fill_table(running *run) {
    const ftwt_program *p = &run->plan->program;
    const ftwt_step *s = run->work.step;
    const int width = p->set[s->made].width;
    for (int sample = 0; sample < p->batch; sample++) {
        const float *row =
            s->weight + (int64_t)((run->plan->first + sample) % s->rank) * width;
        uint8_t *flag = ftwt_live_of(run->plan, s->made, sample)->flag;
        for (int c = 0; c < width; c++) flag[c] = runs(row[c], run->work.threshold);
    }
}

/* A site's mask is its input's. */
static void follow(running *run) {
    const ftwt_program *p = &run->plan->program;
    const ftwt_step *s = run->work.step;
    for (int sample = 0; sample < p->batch; sample++)
        memcpy(ftwt_live_of(run->plan, s->made, sample)->flag,
               ftwt_live_in(run->plan, s->source[0], sample)->flag, (size_t)p->set[s->made].width);
}

static void zero_planes(ftwt_plan *plan, const ftwt_step *step, int64_t from, int64_t to) {
    const ftwt_value *out = &plan->program.value[step->output];
    const int64_t size = (int64_t)out->height * out->width;
    const int64_t parts = chunks(out->channels, FILL_CHANNELS);
    for (int64_t item = from; item < to; item++) {
        int sample = (int)(item / parts), first = (int)(item % parts) * FILL_CHANNELS;
        const uint8_t *made = ftwt_live_of(plan, step->made, sample)->flag;
        for (int c = first; c < out->channels && c < first + FILL_CHANNELS; c++)
            if (!made[c])
                memset(ftwt_plane(plan, step->output, sample, c), 0, (size_t)size * sizeof(float));
    }
}

/* The step whose output the step at hand makes. */
static const ftwt_step *shown(const running *run) {
    const ftwt_work *work = &run->work;
    return work->then ? work->then : work->sum ? work->sum : work->step;
}

/* Most channels of a sample that a sum takes as they are. */
static int most_passing(const running *run) {
    int most = 0;
    for (int sample = 0; sample < run->plan->program.batch; sample++) {
        const int passing = ftwt_live_of(run->plan, run->work.sum->made, sample)->count -
                            ftwt_live_of(run->plan, run->work.step->made, sample)->count;
        if (passing > most) most = passing;
    }
    return most;
}

/* Chooses the kernel of a convolution's phase, and returns whether it is the last. */
static int set_up_convolution(running *run) {
    const ftwt_kernels *kernels = run->plan->kernels;
    if (run->phase) {
        run->kernel = kernels->convolve;
        return 1;
    }
    const int bands = make_blocks(run), plain = run->work.layout->kind == LAYOUT_PLAIN;
    if (run->work.layout->kind == LAYOUT_FEW) group_inputs(run);
    if (run->work.strips) {
        run->kernel = kernels->convolve_strips;
        return 1;
    }
    /* Several bands would lay out a sample's inputs several times. */
    if (!plain && bands == 1 && run->plan->program.batch >= SAMPLES_PER_THREAD * run->threads) {
        run->kernel = kernels->convolve_samples;
        return 1;
    }
    run->kernel = plain ? kernels->convolve : kernels->pack;
    return plain;
}

/* Whether a gate is decided by the thread that arrives last, while the others wait: where that takes
 * less than to share it. */
static int decided_alone(const running *run) {
    const ftwt_program *p = &run->plan->program;
    const ftwt_step *gate = run->work.step;
    const int64_t outputs = p->set[gate->made].width, values = p->set[gate->reads].width;
    const int64_t macs = gate->rank ? gate->rank * (values + outputs) : values * outputs;
    return run->team == 1 || macs * p->batch <= ALONE_MACS;
}

/* Sets up phase `run->phase` of the step; zero if the step has no such phase, or none for others. */
static int set_up(running *run, ftwt_scratch *scratch) {
    ftwt_plan *plan = run->plan;
    const ftwt_program *p = &plan->program;
    const ftwt_step *s = run->work.step;
    const ftwt_kernels *kernels = plan->kernels;
    const int made = p->set[s->made].width;
    const int live = most_live(plan, p->value[s->source[0]].set);
    int64_t each = 0;
    int last = 1;
    if (s->kind == STEP_TABLE) {
        fill_table(run);
        return 0;
    }
    if (s->kind == STEP_FOLLOW) {
        follow(run);
        return 0;
    }
    if (run->plan->link[run->step].taken) return 0;
    if (s->kind == STEP_GATE) {
        if (!run->phase && run->pooled == s) {
            if (run->pooled_pieces > 1) gather_pieces(run);
            run->phase = 1;
        }
        const int many = !s->rank && p->batch >= 4 && p->batch >= 2 * run->threads;
        last = run->phase == 1 + many;
        run->work.group =
            least(MOST_GROUP, SHARING * (int)chunks(p->batch, SHARING * run->threads));
        if (!run->phase)
            run->kernel = kernels->gate_pool, each = chunks(live, kernels->pool_channels);
        else if (!last)
            run->kernel = kernels->gate_normalize, each = 1;
        else if (s->rank)
            run->kernel = kernels->gate_decide_hidden, each = 1;
        else
            run->kernel = many ? kernels->gate_decide_many : kernels->gate_decide,
            each = chunks(made, kernels->row_outputs);
    } else if (s->kind == STEP_LINEAR) {
        run->kernel = kernels->linear;
        each = chunks(made, kernels->row_outputs);
    } else if (s->kind != STEP_CONV) {
        run->kernel = kernels->planes;
        each = chunks(most_live(plan, s->made), kernels->plane_channels);
    } else if (ftwt_is_depthwise(p, s)) {
        run->kernel = kernels->depthwise;
        each = chunks(most_live(plan, s->made), kernels->plane_channels);
        run->work.pieces = choose_bands(run);
        if (run->work.pieces > 1 && !pools_in_pieces(run)) run->work.gate = 0;
    } else {
        last = set_up_convolution(run);
        each = run->kernel == kernels->pack ? chunks(live, kernels->pack_channels) : 1;
    }
    run->work.each = (int32_t)each;
    run->items = each * p->batch;
    if (run->kernel == kernels->gate_normalize) run->items = chunks(p->batch, SHARING);
    if (run->kernel == kernels->gate_decide_many)
        run->items = chunks(made, TILE) * chunks(p->batch, run->work.group);
    if (run->kernel == kernels->depthwise) run->items *= run->work.pieces;
    if (s->kind == STEP_CONV && run->kernel == kernels->convolve)
        run->items = (int64_t)run->work.blocks * run->work.pieces;
    if (run->kernel == kernels->convolve_strips)
        run->items = (int64_t)run->work.strips * run->work.parts * p->batch;
    if (s->kind == STEP_GATE && last && decided_alone(run)) {
        run->kernel(plan, &run->work, scratch, 0, run->items);
        return 0;
    }
    run->pass = run->items;
    if (run->work.sum && run->kernel == kernels->convolve) {
        run->work.passing = (int32_t)chunks(most_passing(run), kernels->pass_channels);
        run->items += (int64_t)run->work.passing * run->work.pieces * p->batch;
    }
    run->fill = run->items;
    if (run->work.gate) {
        run->pooled = run->work.gate;
        run->pooled_pieces = s->kind == STEP_CONV ? run->work.pieces : 1;
    }
    if (last && shown(run)->fill && s->output >= 0)
        run->items += chunks(made, FILL_CHANNELS) * p->batch;
    deal(run);
    run->phase = last ? -1 : run->phase + 1;
    return 1;
}

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000ll + time.tv_nsec;
}

static void note_time(running *run) {
    int64_t time = now();
    if (run->step >= 0) run->nanoseconds[run->step] += time - run->since;
    run->since = time;
}

static int64_t *counts_of(const running *run, const ftwt_step *step) {
    const ftwt_program *p = &run->plan->program;
    if (!run->executed) return 0;
    return run->executed + (step - p->step) * run->plan->whole + run->plan->first;
}

/* Moves to the next phase with anything to do; alone. A phase of -1 ends its step. */
static void advance(void *data) {
    const member *last = data;
    running *run = last->run;
    const ftwt_program *p = &run->plan->program;
    for (;;) {
        if (run->phase < 0) {
            if (run->nanoseconds) note_time(run);
            run->phase = 0;
            run->step++;
        }
        if (run->step >= p->steps) return;
        if (run->phase == 0) {
            const ftwt_link *link = &run->plan->link[run->step];
            const int known = run->step + (link->sum != 0);
            for (; run->set < p->sets && p->set[run->set].before <= known; run->set++)
                ftwt_evaluate(run->plan, run->set);
            run->work.step = &p->step[run->step];
            run->work.layout = &run->plan->layout[run->step];
            run->work.threshold = run->thresholds[run->step];
            run->work.executed = counts_of(run, run->work.step);
            run->work.then = link->then;
            run->work.gate = link->gate;
            run->work.sum = link->sum;
            if (link->sum) {
                const int32_t *source = link->sum->source;
                run->work.other = source[source[0] == run->work.step->output];
            }
            if (link->then) {
                run->work.then_layout = run->work.layout + 1;
                run->work.then_executed = counts_of(run, link->then);
            }
        }
        if (set_up(run, last->scratch)) return;
        run->phase = -1;
    }
}

/* Asks for the weights of the next gate, which come from far and are soon over. */
static void fetch_gate(const running *run) {
    const ftwt_step *gate = run->work.gate;
    if (!gate) return;
    int64_t floats[5];
    ftwt_extents(&run->plan->program, gate, floats);
    const int64_t most = second_cache() / 8 / (int64_t)sizeof(float);
    for (int64_t at = 0; at < floats[0] && at < most; at += 16)
        __builtin_prefetch(gate->weight + at, 0, 2);
    for (int64_t at = 0; at < floats[3] && at < most; at += 16)
        __builtin_prefetch(gate->weight2 + at, 0, 2);
}

/* Does items of a share, one's own or what another thread has left of its own, until there are none. */
static void work_off(running *run, ftwt_share *share, ftwt_scratch *scratch) {
    for (;;) {
        int64_t from = __atomic_fetch_add(&share->next, run->chunk, __ATOMIC_RELAXED);
        int64_t to = from + run->chunk;
        if (from >= share->end) return;
        if (to > share->end) to = share->end;
        if (from < run->pass)
            run->kernel(run->plan, &run->work, scratch, from, to < run->pass ? to : run->pass);
        if (from < run->fill && to > run->pass)
            run->plan->kernels->pass(run->plan, &run->work, scratch,
                                     (from > run->pass ? from : run->pass) - run->pass,
                                     (to < run->fill ? to : run->fill) - run->pass);
        if (to > run->fill)
            zero_planes(run->plan, shown(run), (from > run->fill ? from : run->fill) - run->fill,
                        to - run->fill);
    }
}

static void take_part(void *data, int thread, int threads) {
    running *run = data;
    ftwt_plan *plan = run->plan;
    member self = {run, &plan->scratch[thread]};
    if (thread == 0) run->team = threads;
    for (;;) {
        ftwt_meet(&run->barrier, threads, advance, &self);
        if (run->step >= plan->program.steps) return;
        for (int turn = 0; turn < threads; turn++)
            work_off(run, &plan->share[(thread + turn) % threads], self.scratch);
        fetch_gate(run);
    }
}

static int place_border(
    ftwt_plan *plan, const ftwt_tensor *inputs, const ftwt_tensor *outputs,
    const ftwt_tensor *given, const ftwt_tensor *made
) {
    const ftwt_program *p = &plan->program;
    for (int i = 0; i < p->values; i++) {
        const ftwt_value *v = &p->value[i];
        if (v->place == PLACE_ARENA) continue;
        const ftwt_tensor *t = (v->place == PLACE_INPUT ? inputs : outputs) + v->number;
        const int64_t size = (int64_t)v->channels * v->height * v->width;
        if (!t->data || t->count != plan->whole * size) return FTWT_TENSOR;
        plan->start[i] = (float *)t->data + plan->first * size;
    }
    for (int i = 0; i < p->sets; i++) {
        const ftwt_set *set = &p->set[i];
        if (set->kind != SET_GIVEN && set->kind != SET_MADE) continue;
        const ftwt_tensor *t = (set->kind == SET_GIVEN ? given : made) + set->number;
        if (!t->data || t->count != (int64_t)plan->whole * set->width) return FTWT_TENSOR;
        for (int sample = 0; sample < p->batch; sample++)
            plan->live[(int64_t)i * p->batch + sample].flag =
                (uint8_t *)t->data + (int64_t)(plan->first + sample) * set->width;
    }
    return FTWT_OK;
}

/* What a run is given: see ftwt_execute. */
typedef struct {
    ftwt_plan *plan;
    const float *thresholds;
    int64_t *executed, *nanoseconds;
} call;

static void run_plan(ftwt_plan *plan, const call *given, int64_t *nanoseconds, int threads) {
    running run = {
        .plan = plan,
        .threads = plan->threads,
        .thresholds = given->thresholds,
        .executed = given->executed,
        .nanoseconds = nanoseconds,
        .step = -1,
        .phase = -1,
        .work = {.packed = plan->packed, .pooled = plan->pooled, .part = plan->part,
                 .less = plan->less,
                 .few = plan->few, .shared = plan->shared, .own = plan->few},
    };
    ftwt_together(take_part, &run, threads < plan->threads ? threads : plan->threads);
}

/* The first thread's times are as good as any other's. */
static void take_views(void *data, int thread, int threads) {
    const call *given = data;
    for (int i = thread; i < given->plan->views; i += threads)
        run_plan(given->plan->view[i], given, thread == 0 ? given->nanoseconds : 0, 1);
}

int ftwt_execute(
    ftwt_plan *plan, const ftwt_tensor *inputs, const ftwt_tensor *outputs,
    const ftwt_tensor *given, const ftwt_tensor *made, const float *thresholds, int64_t *executed, int64_t *nanoseconds, int threads
) {
    int failed = plan->views ? FTWT_OK : place_border(plan, inputs, outputs, given, made);
    for (int i = 0; !failed && i < plan->views; i++)
        failed = place_border(plan->view[i], inputs, outputs, given, made);
    if (failed) return failed;
    call all = {plan, thresholds, executed, nanoseconds};
    if (plan->views)
        ftwt_together(take_views, &all, threads < plan->views ? threads : plan->views);
    else if (least(threads, plan->threads) == 1 || nanoseconds)
        run_plan(plan, &all, nanoseconds, ftwt_alone(&plan->pace) ? 1 : threads);
    else {
        const int64_t begin = now();
        run_plan(plan, &all, 0, ftwt_alone(&plan->pace) ? 1 : threads);
        ftwt_took(&plan->pace, now() - begin);
    }
    return FTWT_OK;
}
