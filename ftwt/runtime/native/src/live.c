/* Which channels of each set are live, for each sample. */
#include "live.h"

#include <string.h>

static void make_list(ftwt_live *live, int width) {
    int count = 0;
    for (int c = 0; c < width; c++) {
        live->list[count] = c;
        count += live->flag[c] != 0;
    }
    live->count = count;
}

static void combine(const struct ftwt_plan *plan, const ftwt_set *set, int sample, uint8_t *flag) {
    const uint8_t *first = ftwt_live_of(plan, set->part[0], sample)->flag;
    if (set->kind == SET_REORDER) {
        for (int c = 0; c < set->width; c++)
            flag[c] = set->index[c] > 0 && first[set->index[c] - 1];
        return;
    }
    if (set->kind == SET_CONCAT) {
        for (int i = 0; i < set->parts; i++) {
            int width = plan->program.set[set->part[i]].width;
            memcpy(flag, ftwt_live_of(plan, set->part[i], sample)->flag, (size_t)width);
            flag += width;
        }
        return;
    }
    memcpy(flag, first, (size_t)set->width);
    for (int i = 1; i < set->parts; i++) {
        const uint8_t *part = ftwt_live_of(plan, set->part[i], sample)->flag;
        if (set->kind == SET_UNION)
            for (int c = 0; c < set->width; c++) flag[c] |= part[c];
        else
            for (int c = 0; c < set->width; c++) flag[c] &= part[c];
    }
}

void ftwt_evaluate(struct ftwt_plan *plan, int number) {
    const ftwt_set *set = &plan->program.set[number];
    if (set->kind == SET_ALL) return; /* filled in once */
    for (int sample = 0; sample < plan->program.batch; sample++) {
        ftwt_live *live = &plan->live[(int64_t)number * plan->program.batch + sample];
        if (set->kind != SET_GIVEN && set->kind != SET_MADE)
            combine(plan, set, sample, live->flag);
        make_list(live, set->width);
    }
}
