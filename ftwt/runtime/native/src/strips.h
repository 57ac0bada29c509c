/* Tall convolutions of some rows of tiles at a time, whose inputs a thread lays out for itself: they
 * stay in its cache, and no thread waits for another's. */

/* Panels from..to of some rows of tiles of one block, from inputs as they are laid out at
 * `packed`. */
static void convolve_tall(
    ftwt_plan *plan, const ftwt_work *work, const ftwt_block *block, const tall_rows *rows,
    int from, int to, const float *packed, float *const *planes
) {
    const ftwt_step *step = work->step;
    const int sample = block->sample, inputs = plan->program.value[step->source[0]].channels;
    const int32_t *filters = ftwt_live_of(plan, step->made, sample)->list + block->first;
    micro_work one = {
        .input = packed,
        .plane = rows->plane,
        .order = plan->counting,
        .channel = ftwt_live_in(plan, step->source[0], sample)->list,
        .shift = work->layout->shift,
        .inputs = block->inputs,
        .inside = work->layout->inside[1] ? work->layout->inside : 0,
    };
    const int64_t row = (int64_t)inputs * work->layout->reads;
    tall_sum sum = {.activation = work->sum ? work->sum->activation : ACT_NONE};
    for (int f = 0; f < block->filters; f++) {
        sum.plane[f] = added_plane(plan, work, sample, filters[f]);
        one.weight[f] = step->weight2 + filters[f] * row;
        one.bias[f] = step->bias[filters[f]];
    }
    make_tall(work->layout, rows, work->panel, step, &one, inputs, block->filters, from, to,
              planes, work->sum ? &sum : 0);
}

/* An item is a part of the filters of a strip of a sample. Each part lays out the strip's inputs for
 * itself, which takes less than waiting for each other. */
static void convolve_strips(
    ftwt_plan *plan, const ftwt_work *work, ftwt_scratch *scratch, int64_t from, int64_t to
) {
    const ftwt_step *step = work->step;
    const ftwt_layout *layout = work->layout;
    const ftwt_value *in = &plan->program.value[step->source[0]];
    for (int64_t item = from; item < to; item++) {
        const int part = (int)(item % work->parts);
        const int strip = (int)(item / work->parts % work->strips);
        const int sample = (int)(item / work->parts / work->strips);
        const int begin = layout->height * strip / work->strips;
        const int end = layout->height * (strip + 1) / work->strips;
        const int run = plan->run[sample], blocks = plan->run[sample + 1] - run;
        const int first = run + blocks * part / work->parts;
        const int last = run + blocks * (part + 1) / work->parts;
        const int64_t start = (int64_t)begin * TALL * in->width;
        const int bottom = end * TALL < in->height ? end * TALL : in->height;
        const int64_t positions = (int64_t)bottom * in->width - start;
        if (work->sum) {
            const int passing = count_passing(plan, work, sample);
            pass_channels(plan, work, sample, passing * part / work->parts,
                          passing * (part + 1) / work->parts, start, positions, strip,
                          work->strips);
        }
        if (first == last) continue;
        const tall_rows rows = measure_tall(layout, in->width, begin, end - begin);
        const int panels = (rows.vectors + work->panel - 1) / work->panel;
        const ftwt_live *live = ftwt_live_in(plan, step->source[0], sample);
        for (int j = 0; j < live->count; j++)
            pack_tall(layout, &rows, ftwt_plane(plan, step->source[0], sample, live->list[j]),
                      in->height, in->width, scratch->packed + j * rows.plane);
        const int32_t *made = ftwt_live_of(plan, step->made, sample)->list;
        const int64_t middle = (int64_t)step->middle[0] * step->middle[1];
        int filters = 0;
        for (int i = first; i < last; i++) {
            const ftwt_block *block = &work->block[i];
            float *planes[MOST_FILTERS];
            for (int f = 0; f < block->filters; f++)
                planes[f] = step->pool
                                ? scratch->plane + plan->scratch_plane + f * middle
                                : ftwt_plane(plan, ftwt_shown(work), sample, made[block->first + f]);
            convolve_tall(plan, work, block, &rows, 0, panels, scratch->packed, planes);
            if (work->strips == 1) finish_block(plan, work, scratch, block, planes);
            for (int f = 0; f < block->filters && work->strips > 1; f++)
                summarize_piece(plan, work, sample, made[block->first + f], strip,
                                planes[f] + start, positions);
            filters += block->filters;
        }
        ftwt_count(work->executed, sample,
                   (int64_t)filters * live->count * layout->taps * positions);
    }
}
