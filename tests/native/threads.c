/* Several threads in one network, as Python's are, for ThreadSanitizer: `make sanitize-threads`.
 *
 * ./threads model.ftwt THREADS TEAM ROUNDS: each of THREADS threads has plans of its own of one
 * program, and models of its own of one file, and runs them with TEAM threads, ROUNDS times. All
 * answers have to be those of a team alone, bit for bit; teams of other sizes may round otherwise.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "file.h"
#include "ftwt.h"

enum { MOST_TEAM = 16 };

/* The team's runtime, of POSIX threads: the sanitizer does not see what libgomp waits for. */
static __thread int number_of_thread, threads_of_team = 1;

int omp_get_thread_num(void) {
    return number_of_thread;
}

int omp_get_num_threads(void) {
    return threads_of_team;
}

typedef struct {
    void (*work)(void *);
    void *data;
    int number, threads;
} member;

static void *work_of(void *given) {
    const member *one = given;
    number_of_thread = one->number, threads_of_team = one->threads;
    one->work(one->data);
    number_of_thread = 0, threads_of_team = 1;
    return 0;
}

void GOMP_parallel(void (*work)(void *), void *data, unsigned threads, unsigned flags) {
    pthread_t thread[MOST_TEAM];
    member one[MOST_TEAM];
    (void)flags;
    if (threads > MOST_TEAM) threads = MOST_TEAM;
    for (unsigned i = 0; i < threads; i++) one[i] = (member){work, data, (int)i, (int)threads};
    for (unsigned i = 1; i < threads; i++) pthread_create(&thread[i], 0, work_of, &one[i]);
    work_of(&one[0]);
    for (unsigned i = 1; i < threads; i++) pthread_join(thread[i], 0);
}

static const char *path;
static int team, rounds;
static ftwt_contents contents; /* one for all threads */
static ftwt_sizes sizes;
static int64_t pixels, answers;

typedef struct {
    float *image, *expected;
    int which, wrong;
} caller;

static void must(const char *wrong) {
    if (!wrong) return;
    fprintf(stderr, "%s\n", wrong);
    exit(2);
}

/* One image by a plan of the program that all threads share. */
static void run_plan(ftwt_plan *plan, const float *image, float *answer) {
    const ftwt_program *program = &contents.head.setting[0].program;
    ftwt_tensor *made = calloc((size_t)program->made + 1, sizeof *made);
    for (int i = 0; i < program->sets; i++) {
        const ftwt_set *set = &program->set[i];
        if (set->kind != SET_MADE || made[set->number].data) continue;
        made[set->number] = (ftwt_tensor){calloc(1, (size_t)set->width), set->width};
    }
    const ftwt_tensor input = {(void *)image, pixels}, output = {answer, answers};
    const float *thresholds = contents.head.setting[0].thresholds;
    if (ftwt_execute(plan, &input, &output, 0, made, thresholds, 0, 0, team)) must("ftwt_execute");
    for (int i = 0; i < program->made; i++) free(made[i].data);
    free(made);
}

static void *call(void *given) {
    caller *one = given;
    float *answer = calloc((size_t)answers, sizeof *answer);
    const size_t bytes = (size_t)answers * sizeof *answer;
    const int32_t shape[4] = {1, sizes.input[0], sizes.input[1], sizes.input[2]};
    for (int round = 0; round < rounds; round++) {
        ftwt_plan *plan;
        ftwt_model *model;
        const int portable = round % 2; /* other kernels round otherwise */
        char set[32] = "portable";
        if (!portable) sscanf(ftwt_sets_known(), "%31s", set);
        if (ftwt_prepare(&contents.head.setting[0].program, set, team, &plan)) must("ftwt_prepare");
        for (int again = 0; again < 3; again++) {
            run_plan(plan, one->image, answer);
            one->wrong += !portable && memcmp(answer, one->expected, bytes) != 0;
        }
        ftwt_release(plan);
        must(ftwt_open(path, team, &model));
        must(ftwt_run(model, one->image, shape, answer, 0));
        one->wrong += memcmp(answer, one->expected, bytes) != 0;
        ftwt_close(model);
    }
    free(answer);
    return 0;
}

int main(int count, char **arguments) {
    if (count < 5) return 2;
    const int threads = atoi(arguments[2]);
    path = arguments[1], team = atoi(arguments[3]), rounds = atoi(arguments[4]);
    ftwt_model *model;
    must(ftwt_open(path, team, &model));
    must(ftwt_shape(model, &sizes));
    must(ftwt_read(path, &contents));
    pixels = (int64_t)sizes.input[0] * sizes.input[1] * sizes.input[2];
    answers = (int64_t)sizes.output[0] * sizes.output[1] * sizes.output[2];
    caller *one = calloc((size_t)threads, sizeof *one);
    pthread_t *thread = calloc((size_t)threads, sizeof *thread);
    const int32_t shape[4] = {1, sizes.input[0], sizes.input[1], sizes.input[2]};
    for (int i = 0; i < threads; i++) {
        one[i] = (caller){calloc((size_t)pixels, 4), calloc((size_t)answers, 4), i, 0};
        for (int64_t at = 0; at < pixels; at++)
            one[i].image[at] = (float)((at * 7919 + i * 104729) % 2003) / 1001 - 1;
        must(ftwt_run(model, one[i].image, shape, one[i].expected, 0));
    }
    for (int i = 0; i < threads; i++) pthread_create(&thread[i], 0, call, &one[i]);
    int wrong = 0;
    for (int i = 0; i < threads; i++) pthread_join(thread[i], 0), wrong += one[i].wrong;
    for (int i = 0; i < threads; i++) free(one[i].image), free(one[i].expected);
    printf("%d threads, teams of %d, %d rounds: %d answers differ\n", threads, team, rounds, wrong);
    free(one), free(thread), ftwt_forget(&contents), ftwt_close(model);
    return wrong != 0;
}
