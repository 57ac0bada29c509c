/* Sums of a convolution's planes and those of another value, while the former are in a near cache. */

/* The plane that is added to a convolution's; null where that is of zeros, or nothing is added. */
static const float *
added_plane(const ftwt_plan *plan, const ftwt_work *work, int sample, int channel) {
    if (!work->sum || !ftwt_live_in(plan, work->other, sample)->flag[channel]) return 0;
    return ftwt_plane(plan, work->other, sample, channel);
}

/* `count` floats from `from` on of channel `channel`, whose filter is off: what the sum's other source
 * has, `piece` of `pieces`. */
static void pass_run(
    ftwt_plan *plan, const ftwt_work *work, int sample, int channel, int64_t from, int64_t count,
    int piece, int pieces
) {
    float *to = ftwt_plane(plan, work->sum->output, sample, channel) + from;
    const float *other = added_plane(plan, work, sample, channel);
    if (other)
        activate_run(other + from, to, count, work->sum->activation);
    else
        fill_run(to, 0, count);
    if (pieces > 1)
        summarize_piece(plan, work, sample, channel, piece, to, count);
    else
        summarize(plan, work, work->gate, sample, channel, to);
}

/* Channels of a sample that the sum has and the convolution has not. */
static int count_passing(const ftwt_plan *plan, const ftwt_work *work, int sample) {
    return ftwt_live_of(plan, work->sum->made, sample)->count -
           ftwt_live_of(plan, work->step->made, sample)->count;
}

/* The channels of places first..end among a sample's that the sum has and the convolution has not:
 * their floats from `from` on. */
static void pass_channels(
    ftwt_plan *plan, const ftwt_work *work, int sample, int first, int end, int64_t from,
    int64_t count, int piece, int pieces
) {
    const ftwt_live *sum = ftwt_live_of(plan, work->sum->made, sample);
    const uint8_t *made = ftwt_live_of(plan, work->step->made, sample)->flag;
    for (int i = 0, place = 0; i < sum->count && place < end; i++) {
        if (made[sum->list[i]]) continue;
        if (place >= first)
            pass_run(plan, work, sample, sum->list[i], from, count, piece, pieces);
        place++;
    }
}

/* Piece `piece` of them, of as many as the convolution is done in. */
static void pass_piece(
    ftwt_plan *plan, const ftwt_work *work, int sample, int first, int end, int piece
) {
    const int64_t positions = (int64_t)work->step->middle[0] * work->step->middle[1];
    const int64_t from = positions * piece / work->pieces;
    pass_channels(plan, work, sample, first, end, from,
                  positions * (piece + 1) / work->pieces - from, piece, work->pieces);
}

/* An item is a few such channels, a piece of each. */
static void
pass(ftwt_plan *plan, const ftwt_work *work, ftwt_scratch *scratch, int64_t from, int64_t to) {
    (void)scratch;
    for (int64_t item = from; item < to; item++) {
        const int piece = (int)(item / work->passing % work->pieces);
        const int sample = (int)(item / work->passing / work->pieces);
        const int first = (int)(item % work->passing) * PASS_CHANNELS;
        pass_piece(plan, work, sample, first, first + PASS_CHANNELS, piece);
    }
}
