/* Loops over registers, and functions that are part of their callers. */
#ifndef MIXT_BACKEND_CPU_UNROLL_H
#define MIXT_BACKEND_CPU_UNROLL_H

/* Loops over registers are unrolled, but not under the sanitizers, whose checks would make minutes
 * of compiling of them. */
#ifdef __has_feature
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                         \
    __has_feature(undefined_behavior_sanitizer)
#define UNROLL
#endif
#endif
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define UNROLL
#endif
#ifndef UNROLL
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif
#endif
#define INLINE static inline __attribute__((always_inline))
#define EACH(i, n) UNROLL for (int i = 0; i < (n); i++)

#endif
