/* Threads meet after each layer, and each reads what others made. Where a message from core to core
 * takes long and layers are small, one thread alone is sooner done. On virtual machines that comes
 * and goes, so it is tried again now and then, and whenever calls take another time than they did.
 * Both ways do the same sums in the same order. */
#include "pace.h"

/* Calls before the first trial, and from trial to trial: more with each that changes nothing. */
enum { FIRST = 8, SOONEST = 128, LATEST = 1024 };

/* Programs that take longer have layers large enough to share. */
enum { LONGEST = 4000000 };

static int64_t least(const ftwt_pace *pace) {
    int64_t least = pace->recent[0];
    for (int i = 1; i < FTWT_TRIAL; i++)
        if (pace->recent[i] < least) least = pace->recent[i];
    return least;
}

/* Another way must be better by a twentieth: times are never quite the same. */
static void decide(ftwt_pace *pace) {
    const int better = pace->tried < least(pace) - least(pace) / 20;
    if (better) {
        pace->alone = !pace->alone;
        for (int i = 0; i < FTWT_TRIAL; i++) pace->recent[i] = pace->tried;
    }
    pace->gap = better || !pace->gap ? SOONEST : pace->gap < LATEST ? 2 * pace->gap : LATEST;
    pace->usual = least(pace);
    pace->calls = 0;
}

int ftwt_alone(const ftwt_pace *pace) {
    return pace->left ? !pace->alone : pace->alone;
}

void ftwt_took(ftwt_pace *pace, int64_t nanoseconds) {
    if (pace->left) {
        if (!pace->tried || nanoseconds < pace->tried) pace->tried = nanoseconds;
        if (--pace->left == 0) decide(pace);
        return;
    }
    pace->recent[pace->calls++ % FTWT_TRIAL] = nanoseconds;
    if (pace->calls < (pace->gap ? SOONEST : FIRST) || least(pace) > LONGEST) return;
    const int64_t off = least(pace) - pace->usual;
    if (pace->calls >= pace->gap || off > pace->usual / 8 || -off > pace->usual / 8)
        pace->left = FTWT_TRIAL, pace->tried = 0;
}
