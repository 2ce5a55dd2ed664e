"""The PAN scanner for other extension modules: the C functions and the owner of their tables."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "scan.h" nogil:
    enum:
        SCAN_NETWORKS
        SCAN_MIN
        SCAN_LENGTHS
        SCAN_DIGITS
        SCAN_FULL
        SCAN_KIND_MASK
        SCAN_KERNELS
    ctypedef struct scan_issuer_t:
        uint8_t required
        uint8_t optional
        uint8_t network[8]
    ctypedef struct scan_rules_t:
        const uint16_t (*next)[10]
        const scan_issuer_t *issuer
        uint16_t first[10000]
        uint8_t lengths[10000]
        uint8_t unchecked[10000]
        uint32_t eight_plus_four
        int kernel
    ctypedef struct scan_counts_t:
        uint64_t total
        uint64_t by_network[32]
    ctypedef struct scan_hit_t:
        size_t start
        size_t end
        int network
    int scan_supported(int kernel)
    int scan_preferred()
    void scan_prepare(scan_rules_t *rules)
    size_t scan_mask(const scan_rules_t *rules, int kind, uint8_t *buf, size_t len,
                     scan_counts_t *counts)
    size_t scan_mask_json(const scan_rules_t *rules, int kind, uint8_t *buf, size_t len,
                          scan_counts_t *counts)
    size_t scan_mask_fields(const scan_rules_t *rules, int kind, uint8_t *buf, size_t len,
                            const int64_t *at, const int64_t *size, size_t n, scan_counts_t *counts)
    size_t scan_find(const scan_rules_t *rules, const uint8_t *buf, size_t len, scan_hit_t *hits,
                     size_t cap)


cdef class Scanner:
    cdef scan_rules_t *rules
    cdef object tables       # keeps the arrays that `rules` points into
    cdef readonly tuple networks
    cdef readonly str kernel
