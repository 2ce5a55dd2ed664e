/* The kernels of another machine on cases that Python has written: see unit/test_neon.py. Prints what is wrong. */
#include "scan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void take(void *to, size_t n, FILE *from) {
    if (fread(to, 1, n, from) != n) exit(2);
}

int main(int argc, char **argv) {
    FILE *file = argc == 2 ? fopen(argv[1], "rb") : NULL;
    if (!file) return 2;
    uint32_t head[3], cases;
    take(head, 8, file);
    uint16_t *next = malloc((size_t)head[0] * 20);
    uint8_t *issuers = malloc((size_t)head[0] * 10);
    scan_rules_t *rules = calloc(1, sizeof *rules);
    take(next, (size_t)head[0] * 20, file);
    take(issuers, (size_t)head[0] * 10, file);
    rules->next = (const uint16_t(*)[10])(const void *)next;
    rules->issuer = (const scan_issuer_t *)(const void *)issuers;
    rules->eight_plus_four = head[1];
    scan_prepare(rules);
    take(&cases, 4, file);
    unsigned wrong = 0, kernels = 0;
    for (int kernel = 0; kernel < SCAN_KERNELS; kernel++) kernels += scan_supported(kernel) != 0;
    for (uint32_t i = 0; i < cases; i++) {
        take(head, 12, file); /* kind, bytes, PANs */
        /* of exactly this size, so that a byte too many can be seen */
        uint8_t *given = malloc(head[1]), *wanted = malloc(head[1]), *copy = malloc(head[1]);
        take(given, head[1], file);
        take(wanted, head[1], file);
        for (rules->kernel = 0; rules->kernel < SCAN_KERNELS; rules->kernel++) {
            const int64_t at = 0, size = head[1];
            if (!scan_supported(rules->kernel)) continue;
            memcpy(copy, given, head[1]);
            int bad = scan_mask(rules, (int)head[0], copy, head[1], NULL) != head[2] || memcmp(copy, wanted, head[1]);
            memcpy(copy, given, head[1]);
            bad |= scan_mask_fields(rules, (int)head[0], copy, head[1], &at, &size, 1, NULL) != head[2] ||
                   memcmp(copy, wanted, head[1]);
            if (bad) printf("case %u, kernel %d\n", i, rules->kernel);
            wrong += bad != 0;
        }
        free(given), free(wanted), free(copy);
    }
    printf("%u cases, %u kernels, preferred %d, %u wrong\n", cases, kernels, scan_preferred(), wrong);
    return wrong != 0;
}
