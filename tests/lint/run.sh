#!/bin/sh
# run.sh BUILD: every check of the source; closes with "N passed, M failed".
build=$1
. tests/check.sh
subject="lint "

no_match() {
    pattern=$1
    shift
    ! grep -nE "$pattern" "$@"
}

layout() {
    # shellcheck disable=SC2046
    clang-format --dry-run -Werror $(git ls-files '*.c' '*.h')
}

# Calls and files that Linux has beside POSIX: src/core/platform.c alone knows them, with what other
# systems get in their place.
linux='\b(renameat2|RENAME_[A-Z]+|sched_[gs]etaffinity|CPU_(COUNT|SET|ZERO|ISSET)|MAP_(ANON|ANONYMOUS|NORESERVE|POPULATE|HUGETLB|LOCKED|STACK|FIXED_NOREPLACE)|madvise|MADV_[A-Z]+|mremap|prctl|syscall|SYS_[a-z]|getrandom|getentropy|mkostemps?|pipe2|accept4|dup3|epoll_[a-z0-9]+|eventfd|signalfd|timerfd_[a-z]+|inotify_[a-z0-9]+|memfd_create|copy_file_range|sendfile|splice|fallocate|sync_file_range|syncfs|gettid|getauxval|sysinfo|get_nprocs(_conf)?|getcpu|close_range|openat2|statx|O_TMPFILE|O_PATH|O_DIRECT|F_OFD_[A-Z]+|__linux__)\b|"/(proc|sys|dev/shm)/'
check includes tests/lint/includes.pl
check touch tests/lint/touch.pl
check limits tests/lint/limits.pl
check numbers tests/lint/numbers.pl
check symbols tests/lint/symbols.sh "$build"
check exports tests/lint/exports.sh "$build"
check flags tests/lint/flags.sh
check page tests/lint/page.sh
check interface tests/package/abi.sh check
# shellcheck disable=SC2046
check platform no_match "$linux" $(git ls-files 'src/*.[ch]' 'cli/*.[ch]' 'serve/*.[ch]' 'include/*' 'examples/*' | grep -v '^src/core/platform\.c$')
# shellcheck disable=SC2046
check unfinished no_match '\b(TODO|FIXME|XXX|HACK)\b' $(git ls-files 'src/*' 'cli/*' 'serve/*' 'include/*' 'tests/*.c' 'examples/*' Makefile)
case $(clang-format --version 2>/dev/null) in
*" 14."*) check layout layout ;;
*) echo "lint layout: skipped, it needs clang-format 14" ;;
esac
verdict
