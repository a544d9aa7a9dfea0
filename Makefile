# mixt: GNU Make, sources found by folder. `make help` lists the targets.
CC      ?= cc
CLANG   ?= clang
PKG_CONFIG ?= pkg-config
# What the compiler builds for, as src/core/machine.h names it; nothing where that refuses it.
MACHINE := $(shell $(CC) $(CPPFLAGS) $(CFLAGS) $(EXTRA_CFLAGS) -dM -E src/core/machine.h 2>/dev/null | \
             sed -n 's/^.define MIXT_MACHINE "\(.*\)"$$/\1/p')
HOST    := $(shell uname -m)
BUILD   ?= build/$(or $(filter-out $(HOST) other,$(MACHINE)),release)
# Asserts are for the builds that give an OPT of their own: sanitizers, coverage, fuzzers.
OPT     ?= -O2 -g -DNDEBUG
PREFIX  ?= /usr/local
PYTHON  ?= python3
JOBS    ?= $(shell nproc 2>/dev/null || echo 2)
HEADERS := include/mixt.h $(sort $(wildcard include/mixt/*.h))
VERSION := $(shell sed -n 's/^.define MIXT_VERSION_[MP][A-Z]* \([0-9]*\)$$/\1/p' include/mixt.h | paste -sd.)
# The number of the shared library's interface, and of its symbols in src/libmixt.map (docs/library.md).
SOVERSION := 0

# Debian 12 names. The product: JSON, regular expressions, Unicode, zstd, reads, matrix products; the program alone:
# editing of lines, HTTP.
DEPS      := pkg-config libjansson-dev libpcre2-dev libutf8proc-dev libzstd-dev liburing-dev libopenblas-openmp-dev \
             libedit-dev libmicrohttpd-dev
DEPS_TEST := libcmocka-dev python3 procps
DEPS_FUZZ := clang libclang-rt-14-dev
DEPS_LINT := clang-format
DEPS_PAGE := chromium python3
DEPS_MPI  := libopenmpi-dev openmpi-bin
DEPS_AARCH64 := gcc-aarch64-linux-gnu qemu-user libc6:arm64 libjansson-dev:arm64 libpcre2-dev:arm64 \
                libutf8proc-dev:arm64 libzstd-dev:arm64 liburing-dev:arm64 libopenblas0-openmp:arm64 \
                libedit-dev:arm64 libmicrohttpd-dev:arm64 libcmocka-dev:arm64

ifdef WERROR
WERROR_FLAG := -Werror
endif
WARN := $(WERROR_FLAG) -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wundef \
        -Wcast-align -Wformat=2 -Wswitch-enum
WARN_LIBRARY = $(WARN) -Wconversion -Wno-sign-conversion
PACKAGES := jansson libpcre2-8 libutf8proc libzstd
# io_uring is left out where the compiler finds no liburing (another C library, another machine), and with PORTABLE=1.
ifndef PORTABLE
URING := $(shell printf '\043include <liburing.h>\nint main(void){struct io_uring r;return io_uring_queue_init(1,&r,0);}\n' | \
           $(CC) $(CPPFLAGS) $(CFLAGS) $(EXTRA_CFLAGS) $(LDFLAGS) -x c - -o /dev/null -luring 2>/dev/null && echo liburing)
endif
PACKAGES += $(URING)
PKG_CFLAGS := $(shell $(PKG_CONFIG) --cflags $(PACKAGES) 2>/dev/null)
PKG_LIBS   := $(shell $(PKG_CONFIG) --libs $(PACKAGES) 2>/dev/null || echo -ljansson -lpcre2-8 -lutf8proc -lzstd $(URING:lib%=-l%))
# What the program needs beside the library's.
PROGRAM_PACKAGES := libedit libmicrohttpd
PROGRAM_CFLAGS := $(shell $(PKG_CONFIG) --cflags $(PROGRAM_PACKAGES) 2>/dev/null)
PROGRAM_LIBS   := $(shell $(PKG_CONFIG) --libs $(PROGRAM_PACKAGES) 2>/dev/null || echo -ledit -lmicrohttpd)

# What we choose comes first; then what the caller gives, so that it wins; then what results and both
# libraries rest on. A fused multiply-add that a compiler makes of a * b + c rounds once where the
# scalar tier rounds twice, so tiers and compilers would differ; position-independent objects serve
# libmixt.a and libmixt.so alike. Paths of the build folder stay out of what is built.
BASE := -std=c17 $(OPT) -D_POSIX_C_SOURCE=200809L -D_DEFAULT_SOURCE \
        -fno-math-errno -pthread -Iinclude -Isrc $(PKG_CFLAGS) $(SANITIZE) $(EXTRA_CFLAGS) \
        -fdebug-prefix-map=$(CURDIR)=. -fmacro-prefix-map=$(CURDIR)=. \
        $(CPPFLAGS) $(CFLAGS) -ffp-contract=off -fvisibility=hidden -fPIC
ifdef URING
BASE += -DMIXT_URING
endif
LINK := $(CC) $(BASE) $(LDFLAGS)
# A program at an address of its own: what the undefined sanitizer knows of each line would be a million
# relocations in each of hundreds of programs, at each start of one.
PROGRAM_LINK = $(LINK) $(if $(findstring undefined,$(SANITIZE)),-no-pie)
# PORTABLE=1: the ways of POSIX where Linux has more (src/core/platform.c).
ifdef PORTABLE
BASE += -DMIXT_PORTABLE
endif
LIBS := $(PKG_LIBS) -lm -ldl -pthread

# Flags that change what a sum is cannot be taken back by a later one.
UNSAFE := $(filter -Ofast -ffast-math -funsafe-math-optimizations -fassociative-math -freciprocal-math \
            -ffinite-math-only -fno-signed-zeros -fsingle-precision-constant -mfpmath=387 -mdaz-ftz, \
            $(OPT) $(EXTRA_CFLAGS) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS))
ifneq ($(UNSAFE),)
$(error CFLAGS: $(firstword $(UNSAFE)) changes results, which are the same bits on every machine (docs/numerics.md))
endif
SANITIZE_ADDRESS   := -fsanitize=address -fno-sanitize-recover=all -fno-omit-frame-pointer
SANITIZE_UNDEFINED := -fsanitize=undefined -fno-sanitize-recover=all
SANITIZE_BOTH      := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer

# Kernel tiers of other machines than the compiler's are left out.
TIERS_x86_64  := avx amx
TIERS_aarch64 := neon
FOREIGN := $(foreach tier,$(filter-out $(TIERS_$(MACHINE)),avx amx neon),src/backend/cpu/$(tier)% tests/$(tier)%)

LIBRARY_SOURCES := $(sort $(filter-out $(FOREIGN) src/dist/mpi.c,$(wildcard src/*/*.c src/*/*/*.c)))
# Compiled twice: as fp32 and as fp64 (see src/core/real.h).
TEMPLATES := $(filter %_tmpl.c,$(LIBRARY_SOURCES))
LIBRARY_OBJECTS := $(patsubst %.c,$(BUILD)/%.o,$(filter-out $(TEMPLATES),$(LIBRARY_SOURCES))) \
                   $(TEMPLATES:%.c=$(BUILD)/%.f32.o) $(TEMPLATES:%.c=$(BUILD)/%.f64.o) \
                   $(BUILD)/src/atlas/page_files.o
# The program: commands, and the server behind one of them.
CLI_OBJECTS := $(patsubst %.c,$(BUILD)/%.o,$(sort $(wildcard cli/*.c serve/*.c))) $(BUILD)/serve/page_files.o
# The files of the page at / as C.
PAGE_FILES := $(sort $(wildcard serve/page/*.html serve/page/*.css serve/page/*.js))
# Style and script of the atlas' page, likewise, in the library: the script's files in their order.
ATLAS_PAGE_FILES := $(addprefix src/atlas/page/,atlas.css data.js parts.js map.js search.js panels.js)
LIBRARY := $(BUILD)/libmixt.a
SONAME := libmixt.so.$(SOVERSION)
SHARED := $(BUILD)/libmixt.so.$(VERSION)

# What carries bytes between ranks by MPI is a library of its own, which a program that runs alone
# never loads. It is built where MPI's compiler for this machine is, with MPI=1 always, with MPI=0 never.
MPICC ?= mpicc
MPI   ?= $(if $(and $(filter $(HOST),$(MACHINE)),$(shell command -v $(firstword $(MPICC)) 2>/dev/null)),1,0)
MPIRUN ?= $(subst mpicc,mpirun,$(firstword $(MPICC)))
MPI_LIBRARY := $(if $(filter-out 0,$(MPI)),$(BUILD)/libmixt-mpi.so)

# Kernel tiers (and tests/avx512*.c, tests/amx*.c) carry their own instruction sets; all else runs on any CPU of
# its kind. The first name below that a file's name begins with gives its flags.
AVX2_FLAGS   := -mavx2 -mfma -mf16c
AVX512_FLAGS := -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma -mf16c -mprefer-vector-width=512
ISA_TIERS := amx avx512vnni avx512bf16 avx512 avx2 neon_dotprod neon_i8mm
ISA_avx2         = $(AVX2_FLAGS)
ISA_avx512       = $(AVX512_FLAGS)
ISA_avx512bf16   = $(AVX512_FLAGS) -mavx512bf16
ISA_avx512vnni   = $(AVX512_FLAGS) -mavx512vnni
ISA_amx          = $(AVX512_FLAGS) -mavx512vnni -mamx-tile -mamx-bf16 -mamx-int8
ISA_neon_dotprod = -march=armv8.2-a+dotprod
ISA_neon_i8mm    = -march=armv8.2-a+dotprod+i8mm
ISA = $(ISA_$(firstword $(foreach tier,$(ISA_TIERS),$(if $(findstring /$(tier),$<),$(tier)))))

# A compiler for another machine comes with an archiver of its own.
ifeq ($(origin AR),default)
AR = $(or $(shell $(CC) -print-prog-name=ar 2>/dev/null),ar)
endif

# The fuzzers read files: instrumenting the kernels would only cost minutes of compiling.
ifeq ($(BUILD),build/fuzz)
AVX2_FLAGS   += -fno-sanitize=all
AVX512_FLAGS += -fno-sanitize=all
endif

# Short lines; `make V=1` prints the commands.
ifndef V
say = @printf '  %-6s %s\n' $(1) $(2);
endif

# Builds run on every core unless make was given a -j of its own.
PARALLEL = $(if $(findstring jobserver,$(MAKEFLAGS)),,-j$(JOBS))

all: ## build the program ./mixt, libmixt.a and libmixt.so (release, -O2)
	@+$(MAKE) --no-print-directory $(PARALLEL) program shared mpi
	@ln -sf $(BUILD)/mixt mixt

# What is up to date already is nothing to speak of.
program: $(BUILD)/mixt
	@:
mpi: $(MPI_LIBRARY)
	@:
shared: $(BUILD)/libmixt.so
	@:

$(BUILD)/src/%.f32.o: src/%.c
	@mkdir -p $(@D)
	$(call say,cc,$@)$(CC) $(BASE) $(WARN_LIBRARY) -MMD -MP -c $< -o $@

$(BUILD)/src/%.f64.o: src/%.c
	@mkdir -p $(@D)
	$(call say,cc,$@)$(CC) $(BASE) $(WARN_LIBRARY) -DMIXT_REAL_DOUBLE -MMD -MP -c $< -o $@

$(BUILD)/src/%.o: src/%.c
	@mkdir -p $(@D)
	$(call say,cc,$@)$(CC) $(BASE) $(WARN_LIBRARY) $(ISA) $(DEFINES) -MMD -MP -c $< -o $@

$(BUILD)/cli/%.o: cli/%.c
	@mkdir -p $(@D)
	$(call say,cc,$@)$(CC) $(BASE) $(PROGRAM_CFLAGS) $(WARN) -MMD -MP -c $< -o $@

$(BUILD)/serve/%.o: serve/%.c
	@mkdir -p $(@D)
	$(call say,cc,$@)$(CC) $(BASE) $(PROGRAM_CFLAGS) $(WARN_LIBRARY) -MMD -MP -c $< -o $@

$(BUILD)/serve/page_files.c: serve/page/embed.sh $(PAGE_FILES)
	@mkdir -p $(@D)
	$(call say,embed,$@)sh serve/page/embed.sh serve $(PAGE_FILES) >$@.part && mv $@.part $@

$(BUILD)/src/atlas/page_files.c: serve/page/embed.sh $(ATLAS_PAGE_FILES)
	@mkdir -p $(@D)
	$(call say,embed,$@)sh serve/page/embed.sh atlas $(ATLAS_PAGE_FILES) >$@.part && mv $@.part $@

$(BUILD)/src/atlas/page_files.o: $(BUILD)/src/atlas/page_files.c
	$(call say,cc,$@)$(CC) $(BASE) $(WARN_LIBRARY) -MMD -MP -c $< -o $@

$(BUILD)/serve/page_files.o: $(BUILD)/serve/page_files.c
	$(call say,cc,$@)$(CC) $(BASE) $(WARN_LIBRARY) -Iserve -MMD -MP -c $< -o $@

# Where Debian has libraries of this compiler's machine.
$(BUILD)/src/dist/launch.o: DEFINES = -DMIXT_MULTIARCH='"$(shell $(CC) -print-multiarch 2>/dev/null)"'

$(LIBRARY): $(LIBRARY_OBJECTS)
	@rm -f $@
	$(call say,ar,$@)$(AR) rcsD $@ $^

# Only what is MIXT_API in mixt.h is visible outside, under a version of its own. Calls inside the
# library are bound when it is linked.
$(SHARED): $(LIBRARY_OBJECTS) src/libmixt.map
	$(call say,link,$@)$(LINK) -shared -Wl,-soname,$(SONAME) -Wl,--version-script=src/libmixt.map \
	    -Wl,-Bsymbolic-functions -Wl,--as-needed $(if $(SANITIZE),,-Wl,-z,defs) -o $@ $(LIBRARY_OBJECTS) $(LIBS)

$(BUILD)/libmixt.so: $(SHARED)
	@ln -sf $(notdir $(SHARED)) $(BUILD)/$(SONAME)
	@ln -sf $(SONAME) $@

$(BUILD)/mixt: $(CLI_OBJECTS) $(LIBRARY)
	$(call say,link,$@)$(PROGRAM_LINK) -o $@ $(CLI_OBJECTS) $(LIBRARY) $(PROGRAM_LIBS) $(LIBS)

# MPI's compiler is a wrapper around ours. Of the tests' two one sends in pieces of 1,000 bytes what
# the other sends in pieces of 1 GiB, and one asks at once whether a wrong message came.
MPI_TEST_LIBRARIES := $(if $(MPI_LIBRARY),$(BUILD)/tests/pieces/libmixt-mpi.so $(BUILD)/tests/hasty/libmixt-mpi.so)
$(BUILD)/tests/pieces/libmixt-mpi.so: DEFINES = -DMIXT_MPI_CHUNK=1000
$(BUILD)/tests/hasty/libmixt-mpi.so: DEFINES = -DMIXT_MPI_WRONG_SECONDS=0
$(BUILD)/libmixt-mpi.so $(MPI_TEST_LIBRARIES): src/dist/mpi.c src/dist/transport.h $(BUILD)/mpicc.txt
	@mkdir -p $(@D)
	$(call say,link,$@)OMPI_CC="$(CC)" MPICH_CC="$(CC)" $(MPICC) $(BASE) $(WARN_LIBRARY) $(DEFINES) $(LDFLAGS) -shared -o $@ $< -pthread

# Another MPI's compiler makes another library.
$(BUILD)/mpicc.txt: every-time
	@mkdir -p $(@D)
	@echo '$(MPICC)' | cmp -s - $@ || echo '$(MPICC)' >$@

every-time:

# One program for each tests/test_*.c, linked with cmocka and the other tests/*.c helpers.
TEST_SOURCES := $(sort $(wildcard tests/test_*.c))
TEST_HELPERS := $(patsubst %.c,$(BUILD)/%.o,$(sort $(filter-out $(TEST_SOURCES),$(filter-out $(FOREIGN),$(wildcard tests/*.c)))))
TEST_PROGRAMS := $(TEST_SOURCES:%.c=$(BUILD)/%)
# Hundreds of programs with one library in each of them: without sanitizers, whose reports name lines, what
# debuggers read (nine tenths of 65 MB) is left out. `make TEST_STRIP= build/release/tests/test_NAME` keeps it.
TEST_STRIP ?= $(if $(SANITIZE),,-Wl,--strip-debug)
TEST_LINK = $(PROGRAM_LINK) $(TEST_STRIP)
# Allocations of this one fail when it says so.
$(BUILD)/tests/test_engine_memory $(BUILD)/guarded/tests/test_engine_memory: \
    LIBS += -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=aligned_alloc
# Runs of this one are counted, and fail when it says so.
$(BUILD)/tests/test_engine_sweep: LIBS += -Wl,--wrap=mixt_instance_run
# What this one's disk answers is what it says.
$(BUILD)/tests/test_store_faults: LIBS += -Wl,--wrap=mixt_disk_result

$(BUILD)/tests/%.o: tests/%.c
	@mkdir -p $(@D)
	$(call say,cc,$@)$(CC) $(BASE) $(WARN) $(ISA) $(CORPORA_LIST) -Itests -MMD -MP -c $< -o $@

$(BUILD)/tests/test_%: $(BUILD)/tests/test_%.o $(TEST_HELPERS) $(LIBRARY)
	$(call say,link,$@)$(TEST_LINK) -o $@ $< $(TEST_HELPERS) $(LIBRARY) -lcmocka $(LIBS)

# The fuzz targets without libFuzzer, each under a name of its own, in the program that replays their
# corpora; the program's main has another name there.
FUZZ_TARGETS := $(patsubst fuzz/%.c,%,$(sort $(wildcard fuzz/*.c)))
CORPORA_OBJECTS := $(patsubst %,$(BUILD)/corpora/%.o,$(FUZZ_TARGETS)) $(BUILD)/corpora/main.o \
                   $(patsubst fuzz/shared/%.c,$(BUILD)/corpora/shared/%.o,$(sort $(wildcard fuzz/shared/*.c))) \
                   $(filter-out $(BUILD)/cli/main.o,$(CLI_OBJECTS))

$(BUILD)/corpora/main.o: cli/main.c
	@mkdir -p $(@D)
	$(call say,cc,$@)$(CC) $(BASE) $(WARN) -Dmain=fuzz_cli_main -Wno-missing-prototypes -MMD -MP -c $< -o $@

$(BUILD)/corpora/shared/%.o: fuzz/shared/%.c
	@mkdir -p $(@D)
	$(call say,cc,$@)$(CC) $(BASE) $(WARN) -Ifuzz -MMD -MP -c $< -o $@

$(BUILD)/corpora/%.o: fuzz/%.c
	@mkdir -p $(@D)
	$(call say,cc,$@)$(CC) $(BASE) $(WARN) -Ifuzz -DLLVMFuzzerTestOneInput=fuzz_run_$* \
	    -DLLVMFuzzerCustomMutator=fuzz_mutate_as_$* -MMD -MP -c $< -o $@

$(BUILD)/corpora/mutate.o: fuzz/tools/mutate.c
	@mkdir -p $(@D)
	$(call say,cc,$@)$(CC) $(BASE) $(WARN) -Ifuzz -MMD -MP -c $< -o $@

$(BUILD)/tests/test_corpora.o: CORPORA_LIST = '-DFUZZ_TARGETS=$(foreach name,$(FUZZ_TARGETS),X($(name)))'
$(BUILD)/tests/test_corpora: $(BUILD)/tests/test_corpora.o $(BUILD)/corpora/mutate.o $(CORPORA_OBJECTS) $(LIBRARY)
	$(call say,link,$@)$(TEST_LINK) -o $@ $(filter %.o,$^) $(LIBRARY) -lcmocka $(PROGRAM_LIBS) $(LIBS)

# What makes allocations of mixt serve fail; sanitizers have allocators of their own.
$(BUILD)/tests/siege/failing.so: tests/siege/failing.c
	@mkdir -p $(@D)
	$(call say,link,$@)$(CC) $(filter-out $(SANITIZE),$(BASE)) $(WARN) -fvisibility=default -shared -o $@ $<

$(BUILD)/tests/test_serve_siege: $(if $(SANITIZE),,$(BUILD)/tests/siege/failing.so)

$(BUILD)/tests/siege/slow_disk.so: tests/siege/slow_disk.c
	@mkdir -p $(@D)
	$(call say,link,$@)$(CC) $(filter-out $(SANITIZE),$(BASE)) $(WARN) -fvisibility=default -shared -o $@ $<

$(BUILD)/tests/test_serve_store: $(if $(SANITIZE),,$(BUILD)/tests/siege/slow_disk.so)

# Ranks as processes without MPI: what carries their bytes.
$(BUILD)/tests/hub.so: tests/hub.c tests/hub.h src/dist/transport.h
	@mkdir -p $(@D)
	$(call say,link,$@)$(CC) $(filter-out $(SANITIZE),$(BASE)) $(WARN) -fvisibility=default -shared -o $@ $<

# ... what starts them, a mpirun for tests; and what each of them runs in the tests of ranks.
RANKS_PROGRAMS := $(BUILD)/tests/launch $(BUILD)/tests/conform
$(RANKS_PROGRAMS): $(BUILD)/tests/%: $(BUILD)/tests/ranks/%.o $(TEST_HELPERS) $(LIBRARY) | $(BUILD)/tests/hub.so
	$(call say,link,$@)$(TEST_LINK) -o $@ $< $(TEST_HELPERS) $(LIBRARY) -lcmocka $(LIBS)

$(BUILD)/tests/conform: LIBS += -rdynamic

$(BUILD)/tests/test_ranks $(BUILD)/tests/test_spread_cli $(BUILD)/tests/test_distributed: $(RANKS_PROGRAMS)

# The program inside of a harness that fails its allocations; sanitizers have allocators of their own.
MEMORY_PROGRAM := $(if $(SANITIZE),,$(BUILD)/tests/memory)

$(BUILD)/tests/memory: $(BUILD)/tests/fault/memory.o $(CLI_OBJECTS) $(LIBRARY)
	$(call say,link,$@)$(TEST_LINK) -Wl,--wrap=main -o $@ $< $(CLI_OBJECTS) $(LIBRARY) $(PROGRAM_LIBS) $(LIBS)

# The examples see the public header alone, as a user's program does.
EXAMPLE_PROGRAMS := $(patsubst %.c,$(BUILD)/%,$(sort $(wildcard examples/*.c)))

# The tests that make a context or run the program, once more on a backend whose memory is not the
# host's: the same objects, linked so that who asks for the CPU backend gets the one of tests/guarded.
# test_kernels has contexts, but runs no plan; test_serve_page is about what a browser shows; what
# test_convert_report and test_engine_sweep run, test_fidelity and test_engine do; test_distributed is about
# docs/distributed.md. Such a backend refuses models whose experts stay on disk.
STORED_NAMES := memory_cli serve_store store_agrees store_faults stored
GUARDED := $(BUILD)/guarded
GUARDED_NAMES := $(filter-out convert_report distributed engine_sweep kernels serve_page spread_cli $(STORED_NAMES),$(patsubst tests/test_%.c,%,$(sort $(shell grep -lE \
    'mixt_context_create|scratch_make_context|mixt_backend_cpu|"(backend/context|model_runner|model_checks|parity|train_setup|shell)\.h"' $(TEST_SOURCES)))))
GUARDED_OBJECTS := $(patsubst %.c,$(BUILD)/%.o,$(sort $(filter-out tests/guarded/test_%,$(wildcard tests/guarded/*.c))))
GUARDED_PROGRAMS := $(patsubst %,$(GUARDED)/tests/test_%,guarded $(GUARDED_NAMES))
GUARDED_LINK := -Wl,--wrap=mixt_backend_cpu,--wrap=mixt_instance_run

$(GUARDED)/tests/test_guarded: $(BUILD)/tests/guarded/test_guarded.o
$(foreach name,$(GUARDED_NAMES),$(eval $(GUARDED)/tests/test_$(name): $(BUILD)/tests/test_$(name).o))

$(GUARDED_PROGRAMS): $(TEST_HELPERS) $(GUARDED_OBJECTS) $(LIBRARY)
	@mkdir -p $(@D)
	$(call say,link,$@)$(TEST_LINK) $(GUARDED_LINK) -o $@ $(filter %.o,$^) $(LIBRARY) -lcmocka $(LIBS)

$(GUARDED)/mixt: $(CLI_OBJECTS) $(GUARDED_OBJECTS) $(LIBRARY)
	@mkdir -p $(@D)
	$(call say,link,$@)$(TEST_LINK) $(GUARDED_LINK) -o $@ $(CLI_OBJECTS) $(GUARDED_OBJECTS) $(LIBRARY) $(PROGRAM_LIBS) $(LIBS)

$(GUARDED)/examples/%: examples/%.c $(GUARDED_OBJECTS) $(LIBRARY) $(HEADERS)
	@mkdir -p $(@D)
	$(call say,link,$@)$(filter-out -Isrc,$(TEST_LINK)) $(WARN) $(GUARDED_LINK) -o $@ $< $(GUARDED_OBJECTS) $(LIBRARY) $(LIBS)

$(BUILD)/examples/%: examples/%.c $(LIBRARY) $(HEADERS)
	@mkdir -p $(@D)
	$(call say,link,$@)$(filter-out -Isrc,$(PROGRAM_LINK)) $(WARN) -o $@ $< $(LIBRARY) $(LIBS)

# Files, threads, maps, checkpoints and runs that go the ways of POSIX, without what Linux alone has: the
# same objects, but for those of the files that ask (PORTABLE=1 builds all of them so).
PORTABLE_TESTS := platform memory_limit map disk checkpoint checkpoint_damage checkpoints resume trace open model parity
PORTABLE_BUILD := $(BUILD)/portable
PORTABLE_PROGRAMS := $(PORTABLE_TESTS:%=$(PORTABLE_BUILD)/tests/test_%)
PORTABLE_OBJECTS := $(patsubst %.c,$(PORTABLE_BUILD)/%.o,$(shell grep -l '^#.*MIXT_PORTABLE' src/*/*.c tests/*.c))
portable = $(foreach object,$(1),$(or $(filter $(object:$(BUILD)/%=$(PORTABLE_BUILD)/%),$(PORTABLE_OBJECTS)),$(object)))

$(PORTABLE_OBJECTS): $(PORTABLE_BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(call say,cc,$@)$(CC) $(BASE) $(WARN) -DMIXT_PORTABLE -Itests -MMD -MP -c $< -o $@

$(PORTABLE_BUILD)/libmixt.a: $(call portable,$(LIBRARY_OBJECTS))
	@rm -f $@
	$(call say,ar,$@)$(AR) rcsD $@ $^

$(PORTABLE_BUILD)/mixt: $(CLI_OBJECTS) $(PORTABLE_BUILD)/libmixt.a
	$(call say,link,$@)$(LINK) -o $@ $^ $(PROGRAM_LIBS) $(LIBS)

$(foreach name,$(PORTABLE_TESTS),$(eval $(PORTABLE_BUILD)/tests/test_$(name): $(call portable,$(BUILD)/tests/test_$(name).o)))
$(PORTABLE_PROGRAMS): $(TEST_HELPERS) $(PORTABLE_BUILD)/libmixt.a
	@mkdir -p $(@D)
	$(call say,link,$@)$(TEST_LINK) -o $@ $(filter %.o,$^) $(PORTABLE_BUILD)/libmixt.a -lcmocka $(LIBS)

# Before the first object: a machine that mixt does not run on is refused by one line.
ifeq ($(MACHINE),)
$(LIBRARY_OBJECTS) $(CLI_OBJECTS) $(TEST_HELPERS) $(TEST_SOURCES:%.c=$(BUILD)/%.o): refused
refused:
	@$(CC) $(CPPFLAGS) $(CFLAGS) $(EXTRA_CFLAGS) -E -o /dev/null src/core/machine.h; exit 1
.PHONY: refused
endif

objects: $(LIBRARY_OBJECTS) $(CLI_OBJECTS)
examples: $(EXAMPLE_PROGRAMS)
tests: $(TEST_PROGRAMS) $(MEMORY_PROGRAM) $(EXAMPLE_PROGRAMS) $(if $(CLI_OBJECTS),$(BUILD)/mixt)
guarded: $(GUARDED_PROGRAMS) $(GUARDED)/mixt $(patsubst $(BUILD)/%,$(GUARDED)/%,$(EXAMPLE_PROGRAMS))
	@printf '%s\n' $(notdir $(GUARDED_PROGRAMS)) >$(GUARDED)/programs

## ---- dependencies

# Names what is missing and why before anything is installed; says nothing when all is there.
define install_packages
@missing=; for package in $(1); do \
    dpkg-query -W -f='$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$package"; \
done; \
[ -n "$$missing" ] || exit 0; \
if ! command -v apt-get >/dev/null; then \
    echo "make deps: no apt-get here; please install what Debian calls:$$missing" >&2; exit 1; fi; \
echo "Installing$$missing"; echo "  $(2)"; \
root=; [ "$$(id -u)" = 0 ] || root=sudo; \
if [ -n "$$root" ] && ! command -v sudo >/dev/null; then \
    echo "make deps: not root and no sudo; run as root: apt-get install$$missing" >&2; exit 1; fi; \
install() { $$root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $$missing >$(3) 2>&1; }; \
mkdir -p $(dir $(3)); \
install || { $$root apt-get update -qq >>$(3) 2>&1; install; } || { tail -5 $(3) >&2; exit 1; }
endef
LOG := build/log

deps: ## install the product's Debian packages (says which and why first)
	$(call install_packages,$(DEPS),jansson: JSON; pcre2 and utf8proc: tokenizers; zstd: .jsonl.zst; uring: models larger than memory; openblas: fast products; edit: lines at a terminal; microhttpd: mixt serve,$(LOG)/deps.txt)

deps-test: deps ## ... and those of the tests
	$(call install_packages,$(DEPS_TEST),cmocka: the test programs; python3: the siege of mixt serve; procps: ps and pgrep,$(LOG)/deps-test.txt)

deps-fuzz: deps ## ... and those of the fuzzers
	$(call install_packages,$(DEPS_FUZZ),clang and its runtime: a second compiler and libFuzzer,$(LOG)/deps-fuzz.txt)

deps-lint: deps
	$(call install_packages,$(DEPS_LINT),clang-format: the layout check of make lint,$(LOG)/deps-lint.txt)

deps-page: ## ... and the browser that checks the page (large, optional)
	$(call install_packages,$(DEPS_PAGE),chromium and python3: show the atlas page to a test,$(LOG)/deps-page.txt)

deps-mpi: deps-test ## ... and MPI, for several processes that train or run one model (optional)
	$(call install_packages,$(DEPS_MPI),Open MPI: carries bytes between ranks and starts them,$(LOG)/deps-mpi.txt)

deps-aarch64: deps ## ... and the cross compiler, emulator and libraries of check-aarch64
	@! command -v dpkg >/dev/null || dpkg --print-foreign-architectures | grep -qx arm64 || \
	    $$([ "$$(id -u)" = 0 ] || echo sudo) dpkg --add-architecture arm64
	$(call install_packages,$(DEPS_AARCH64),a compiler for aarch64 with the product's libraries; qemu: runs its programs,$(LOG)/deps-aarch64.txt)

## ---- running

demo: deps ## install what is missing, build, and run the whole story (about 8 minutes)
	@+$(MAKE) --no-print-directory all
	./mixt demo

bench: all ## speed of a training step, prompts and generation on this machine
	./mixt bench --train --operators -p 512 -n 128

## ---- tests: the last line printed is "N passed, M failed"

check: check-build ## all tests, in release, on the guarded backend, under the address and undefined sanitizers
	@mkdir -p build/log; CC="$(CC)" tests/docs/compile_examples.sh >build/log/docs.txt 2>&1 || { cat build/log/docs.txt; exit 1; }
	@tests/run.sh build/release build/release/guarded build/san

check-build: deps-test ## what check runs, without a run
	@+$(MAKE) --no-print-directory $(PARALLEL) BUILD=build/release tests guarded
	@+$(MAKE) --no-print-directory $(PARALLEL) BUILD=build/san OPT="-O1 -g1" SANITIZE="$(SANITIZE_BOTH)" tests

quick: deps-test ## the tests in release only
	@+$(MAKE) --no-print-directory $(PARALLEL) tests
	@tests/run.sh $(BUILD)

check-guarded: deps-test ## those that run plans, on a backend whose memory the host may not touch
	@+$(MAKE) --no-print-directory $(PARALLEL) guarded
	@tests/run.sh $(GUARDED)

# One build folder for each sanitizer.
asan: deps-test ## the tests under AddressSanitizer
	@+$(MAKE) --no-print-directory $(PARALLEL) BUILD=build/asan OPT="-O1 -g1" SANITIZE="$(SANITIZE_ADDRESS)" tests
	@tests/run.sh build/asan

ubsan: deps-test ## the tests under UndefinedBehaviorSanitizer
	@+$(MAKE) --no-print-directory $(PARALLEL) BUILD=build/ubsan OPT="-O1 -g1" SANITIZE="$(SANITIZE_UNDEFINED)" tests
	@tests/run.sh build/ubsan

tsan: deps-test ## the tests under ThreadSanitizer
	@+$(MAKE) --no-print-directory $(PARALLEL) BUILD=build/tsan OPT="-O1 -g1" SANITIZE="-fsanitize=thread" tests
	@TSAN_OPTIONS=halt_on_error=1 tests/run.sh build/tsan

# Those below the best; a processor that lacks one says so.
CHECK_TIERS_x86_64  := scalar avx2
CHECK_TIERS_aarch64 := scalar neon dotprod
CHECK_TIERS_other   := scalar
check-tiers: deps-test ## the tests in release with each CPU tier forced
	@+$(MAKE) --no-print-directory $(PARALLEL) BUILD=build/release tests
	@for tier in $(CHECK_TIERS_$(MACHINE)); do \
	    if MIXT_CPU=$$tier build/release/mixt bench -r 1 --no-limits --layers 1 -p 1 -n 0 >/dev/null; then \
	        MIXT_CPU=$$tier tests/run.sh build/release || exit 1; fi; done

check-portable: deps-test ## the tests of files, maps, threads and checkpoints without what Linux alone has
	@+$(MAKE) --no-print-directory $(PARALLEL) $(PORTABLE_PROGRAMS) $(PORTABLE_BUILD)/mixt
	@printf '%s\n' $(notdir $(PORTABLE_PROGRAMS)) >$(PORTABLE_BUILD)/programs
	@tests/run.sh $(PORTABLE_BUILD)

# The aarch64 build under an emulator, some 15 times as slow. Left out are test_page and test_serve_page, which
# want a browser, and what takes two seconds natively and rests on what the others test; bits of training and
# of the program are those of `make bits-aarch64`.
CC_AARCH64   ?= aarch64-linux-gnu-gcc
QEMU_AARCH64 ?= qemu-aarch64
LEFT_OUT := adamw_curve balance chat chat_terminal checkpoints cli cli_train convert convert_report corpus data_file \
            distributed fidelity flags hostile intervals measures_calibration methods model_families open options page probe \
            probe_cli ranks read_types resume rope router routers safetensors serve_page serve_siege spread spread_cli \
            state_ranks streams study tables together trace train train_parts train_ranks use waits
build-aarch64: deps-aarch64
	@+$(MAKE) --no-print-directory $(PARALLEL) CC="$(CC_AARCH64)" BUILD=build/aarch64 tests
	@tests/emulate.sh build/aarch64 $(QEMU_AARCH64)

check-aarch64: build-aarch64 ## the tests of a build for aarch64, under qemu-user
	@printf '%s\n' $(filter-out $(LEFT_OUT:%=test_%),$(TEST_SOURCES:tests/%.c=%)) >build/aarch64/emulated/programs
	@MIXT_BUILD=$(CURDIR)/build/aarch64/emulated tests/run.sh build/aarch64/emulated

COUNT ?= 10000
SEED  ?= 1
check-options: deps-test ## COUNT (10000) random option sets (SEED): refused at once, or trained, saved, resumed, converted
	@+$(MAKE) --no-print-directory $(PARALLEL) $(BUILD)/tests/test_options
	@MIXT_OPTION_SETS=$(COUNT) MIXT_OPTION_SEED=$(SEED) $(BUILD)/tests/test_options

KILLS  ?= 1000
STUDY_KILLS ?= 100
FAULTS ?= 0
check-same-bits: deps-test ## COUNT (10000) results of sequences in random schedules against each alone: all families, ways to route
	@+$(MAKE) --no-print-directory $(PARALLEL) $(BUILD)/tests/test_engine
	@MIXT_SAME_BITS=$(COUNT) $(BUILD)/tests/test_engine

check-kill: deps-test ## KILLS (1000) random kill -9 during training, STUDY_KILLS (100) in a study: nothing lost, every bit the same
	@+$(MAKE) --no-print-directory $(PARALLEL) tests
	@tests/fault/kill_train.sh $(KILLS) 1 $(BUILD)
	@$(BUILD)/tests/test_study --kills $(STUDY_KILLS) 1

check-kill-ranks: ## KILLS (1000) random kill -9 of one of several ranks that train: none hangs, nothing lost, every bit the same
	@+$(MAKE) --no-print-directory $(PARALLEL) program $(BUILD)/tests/launch
	@tests/fault/kill_ranks.sh $(BUILD) $(KILLS)

RANK_KILLS ?= 20
# The tests whose ranks are threads in `make check`, here processes (tests/hub.h).
RANK_TESTS ?= exchange exchange_model spread state_ranks train_ranks
check-ranks: deps-test ## ranks over MPI (mpirun): collectives, RANK_KILLS (20) kills, ends; `make deps-mpi` installs it
	@+$(MAKE) --no-print-directory $(PARALLEL) program mpi $(RANKS_PROGRAMS) $(MPI_TEST_LIBRARIES) \
	    $(RANK_TESTS:%=$(BUILD)/tests/test_%)
	@MPIRUN=$(MPIRUN) tests/ranks.sh $(BUILD) $(RANK_KILLS) $(RANK_TESTS)

check-ranks-san: ## ... under the address and undefined sanitizers (without the leaks of tests/fault/openmpi.supp)
	@+$(MAKE) --no-print-directory BUILD=build/san OPT="-O1 -g1" SANITIZE="$(SANITIZE_BOTH)" check-ranks \
	    RANK_TESTS="exchange exchange_model state_ranks"

SECONDS ?= 600
CLIENTS ?= 10000
check-siege: deps-test ## mixt serve under siege: CLIENTS (10000) killed and idle, a soak of SECONDS (600) or 10^6 requests, ends at every state
	@+$(MAKE) --no-print-directory $(PARALLEL) $(BUILD)/mixt $(BUILD)/tests/siege/failing.so
	@$(PYTHON) tests/siege/siege.py $(BUILD)/mixt --seconds $(SECONDS) --count $(CLIENTS) --soak 1000000
	@$(PYTHON) tests/siege/siege.py $(BUILD)/mixt --seconds 30 --only memory --failing $(BUILD)/tests/siege/failing.so

check-studies: deps ## the quick form of every spec in examples/studies, twice
	@+$(MAKE) --no-print-directory $(PARALLEL) $(BUILD)/mixt
	@tests/studies.sh $(BUILD)

check-faults: deps-test ## FAULTS (0: each once) faults at the system calls of one save
	@+$(MAKE) --no-print-directory $(PARALLEL) $(LIBRARY)
	@BUILD=$(BUILD) CC="$(CC)" MIXT_LIBS="$(PKG_LIBS)" tests/fault/run.sh $(FAULTS)

ALLOCATIONS ?= 0
FIRST ?= 1
check-memory: deps-test ## every command with its allocations failing (ALLOCATIONS of each; 0: all; from FIRST to LAST; COMMAND: one of them) and under limits
	@+$(MAKE) --no-print-directory $(PARALLEL) $(BUILD)/tests/memory
	@$(BUILD)/tests/memory $(ALLOCATIONS) "$(COMMAND)" $(FIRST) $(LAST)

check-intervals: deps-test ## the table of docs/atlas.md: how often the atlas' 95 % intervals hold the true rate
	@+$(MAKE) --no-print-directory $(BUILD)/tests/test_intervals
	@$(BUILD)/tests/test_intervals table

TRACES ?= 400
check-calibration: deps-test ## the tables of docs/measures/calibration.md: how often TRACES (400) made-up traces stay within the measures' levels
	@+$(MAKE) --no-print-directory $(BUILD)/tests/test_measures_calibration
	@$(BUILD)/tests/test_measures_calibration table $(TRACES)

CHAT_TEMPLATES ?=
check-clients: deps ## clients nobody changed and lm-evaluation-harness against mixt serve (PYTHON: with their packages; CHAT_TEMPLATES: a folder of chat templates)
	@+$(MAKE) --no-print-directory $(PARALLEL) $(BUILD)/mixt
	@tests/clients/run.sh $(BUILD) "$(PYTHON)" "$(CHAT_TEMPLATES)"

bits: deps ## REV=revision: does the working tree compute the same bits as that one?
	@CC="$(CC)" tests/bits/compare.sh "$(REV)"

check-machines: ## 32-bit and big-endian machines are refused by one line
	@tests/machines.sh "$(MAKE)" "$(CLANG)"

CC_MUSL ?= musl-gcc
deps-musl: deps
	$(call install_packages,musl-tools,musl-tools: a compiler for another C library,$(LOG)/deps-musl.txt)

check-musl: deps-musl ## library and program compiled by musl's compiler, each symbol looked for
	@tests/musl.sh build/musl "$(CC_MUSL)"

bits-aarch64: build-aarch64 ## does the build for aarch64 compute the bits of the scalar tier here? TIERS (i8mm)
	@CC="$(CC)" CC_AARCH64="$(CC_AARCH64)" QEMU_AARCH64="$(QEMU_AARCH64)" tests/bits/compare.sh --aarch64

coverage: deps-test ## lines and branches that the tests reach, by file
	@+$(MAKE) --no-print-directory $(PARALLEL) BUILD=build/coverage OPT="-O1 -g1" SANITIZE="--coverage" tests
	@find build/coverage -name '*.gcda' -delete
	@tests/run.sh build/coverage >build/coverage/tests.txt || { cat build/coverage/tests.txt; exit 1; }
	@tests/lint/coverage.sh build/coverage

## ---- fuzzing: every fuzz/*.c under libFuzzer for FUZZ_SECONDS each

FUZZ_SECONDS ?= 60
FUZZ_PROGRAMS := $(patsubst fuzz/%.c,build/fuzz/fuzz/%,$(sort $(wildcard fuzz/*.c)))

FUZZ_SHARED := $(patsubst %.c,build/fuzz/%.o,$(sort $(wildcard fuzz/shared/*.c)))

build/fuzz/fuzz/shared/%.o: fuzz/shared/%.c
	@mkdir -p $(@D)
	$(call say,cc,$@)$(CLANG) $(BASE) $(WARN) -O1 -g -Ifuzz -fsanitize=address,undefined -MMD -MP -c $< -o $@

# The program's own readers, with its main under another name.
FUZZ_CLI := $(patsubst %.c,build/fuzz/%.o,$(filter-out cli/main.c,$(sort $(wildcard cli/*.c serve/*.c)))) \
            build/fuzz/serve/page_files.o build/fuzz/fuzz/cli_main.o

build/fuzz/fuzz/cli_main.o: cli/main.c
	@mkdir -p $(@D)
	$(call say,cc,$@)$(CLANG) $(BASE) $(WARN) -O1 -g -Dmain=fuzz_cli_main -Wno-missing-prototypes -fsanitize=address,undefined -MMD -MP -c $< -o $@

build/fuzz/fuzz/settings build/fuzz/fuzz/serve_request: $(FUZZ_CLI)
build/fuzz/fuzz/settings build/fuzz/fuzz/serve_request: LIBS := $(PROGRAM_LIBS) $(LIBS)

build/fuzz/fuzz/%: fuzz/%.c $(FUZZ_SHARED) build/fuzz/libmixt.a
	@mkdir -p $(@D)
	$(call say,link,$@)$(CLANG) $(BASE) $(WARN) $(LDFLAGS) -Ifuzz -fsanitize=fuzzer,address,undefined -o $@ $< $(filter %.o,$^) build/fuzz/libmixt.a $(PROGRAM_LIBS) $(LIBS)

fuzz-build: deps-fuzz
	@+$(MAKE) --no-print-directory $(PARALLEL) CC="$(CLANG)" BUILD=build/fuzz OPT="-O1 -g" \
	    SANITIZE="-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all" build/fuzz/libmixt.a $(filter build/fuzz/cli/% build/fuzz/serve/%,$(FUZZ_CLI))
	@+$(MAKE) --no-print-directory $(PARALLEL) $(FUZZ_PROGRAMS)

# The seeds of whole models, runs, traces and importance files, from fuzz/corpus/consistent.
build/fuzz/fuzz/tools/%: fuzz/tools/%.c $(FUZZ_SHARED) build/fuzz/libmixt.a
	@mkdir -p $(@D)
	$(call say,link,$@)$(CLANG) $(BASE) $(WARN) -Ifuzz -fsanitize=fuzzer-no-link,address,undefined -o $@ $< fuzz/tools/mutate.c $(FUZZ_SHARED) build/fuzz/libmixt.a $(LIBS)

fuzz-seeds: fuzz-build ## make the seeds of fuzz/corpus that the library writes
	@+$(MAKE) --no-print-directory build/fuzz/fuzz/tools/make_seeds
	@build/fuzz/fuzz/tools/make_seeds fuzz/corpus

fuzz: fuzz-build ## every fuzz/*.c under libFuzzer, FUZZ_SECONDS each (60)
	@tests/fuzz.sh $(FUZZ_SECONDS) $(FUZZ_PROGRAMS)

## ---- reading the source

lint: all ## dependency law, touch counts, sizes, symbols, layout
	@tests/lint/run.sh $(BUILD)

format: ## apply .clang-format to every source
	clang-format -i $$(git ls-files '*.c' '*.h')

analyze: ## gcc -fanalyzer over library and program
	@+$(MAKE) --no-print-directory $(PARALLEL) BUILD=build/analyze EXTRA_CFLAGS="-fanalyzer" program

clean: ## remove what was built
	rm -rf build mixt

help: ## this list
	@sed -n 's/^\([a-z-]*\):.* ## \(.*\)/\1|\2/p' $(firstword $(MAKEFILE_LIST)) packaging/packaging.mk | \
	    while IFS='|' read -r name text; do printf '  make %-12s %s\n' "$$name" "$$text"; done

include packaging/packaging.mk
-include bench/bench.mk
-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)

.PHONY: every-time program mpi objects shared examples tests guarded fuzz-build build-aarch64 \
        $(shell sed -n 's/^\([a-z0-9-]*\):.* \#\# .*/\1/p' $(filter %Makefile %.mk,$(MAKEFILE_LIST)))
# Made on the way to a program and kept. Not all: a missing one counts as made where what is made of it is newer than
# its source, and a source that came with an old date would be left out of the library.
.SECONDARY: $(TEST_SOURCES:%.c=$(BUILD)/%.o)
.DEFAULT_GOAL := all
