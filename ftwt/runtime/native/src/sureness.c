/* How sure an answer is, as ftwt/gated/escalation/signals.py has it. */
#include "sureness.h"

#include <math.h>

typedef struct {
    const float *logit;
    int channels;
    int64_t apart;
    double temperature;
} logits;

static double scaled(const logits *of, int channel) {
    return (double)of->logit[channel * of->apart] / of->temperature;
}

/* Of one position. */
static double sureness(int kind, const logits *of) {
    double largest = scaled(of, 0), sum = 0, first = 0, second = 0, entropy = 0;
    for (int c = 1; c < of->channels; c++)
        if (!(scaled(of, c) <= largest)) largest = scaled(of, c);
    for (int c = 0; c < of->channels; c++) sum += exp(scaled(of, c) - largest);
    const double total = largest + log(sum);
    for (int c = 0; c < of->channels; c++) {
        const double log_share = scaled(of, c) - total, share = exp(log_share);
        if (!(share <= first))
            second = first, first = share;
        else if (share > second)
            second = share;
        if (share != 0) entropy -= share * log_share;
    }
    if (kind == SIGNAL_MARGIN) return first - second;
    return kind == SIGNAL_CONFIDENCE ? first : 1 - entropy / log(of->channels);
}

double ftwt_sureness(
    const ftwt_signal *signal, const float *answer, int channels, int64_t positions
) {
    const double surest = nextafter(1, 0);
    double sum = 0;
    for (int64_t i = 0; i < positions; i++)
        sum += sureness(
            signal->kind, &(logits){answer + i, channels, positions, signal->temperature}
        );
    const double mean = sum / (double)positions;
    /* Not a number stays. */
    return mean < 0 ? 0 : mean > surest ? surest : mean;
}

int64_t ftwt_unsure(
    const ftwt_signal *signal, double threshold, const float *answers, int64_t samples,
    int channels, int64_t positions, int64_t *unsure
) {
    int64_t count = 0;
    for (int64_t i = 0; i < samples; i++) {
        const double sure =
            ftwt_sureness(signal, answers + i * channels * positions, channels, positions);
        if (isnan(sure)) return -1;
        if (sure < threshold) unsure[count++] = i;
    }
    return count;
}
