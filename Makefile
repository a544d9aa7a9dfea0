# mixt: GNU Make, sources found by folder. `make help` lists the targets.
CC      ?= cc
BUILD   ?= build/release
OPT     ?= -O2 -g
PREFIX  ?= /usr/local
PYTHON  ?= python3

WARN := -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wundef \
        -Wcast-align -Wformat=2 -Wswitch-enum
WARN_LIBRARY := $(WARN) -Wconversion -Wno-sign-conversion
PACKAGES := jansson libpcre2-8 libutf8proc libzstd
PKG_CFLAGS := $(shell pkg-config --cflags $(PACKAGES) 2>/dev/null)
PKG_LIBS   := $(shell pkg-config --libs $(PACKAGES) 2>/dev/null || echo -ljansson -lpcre2-8 -lutf8proc -lzstd)
ifdef WERROR
WARN += -Werror
endif

BASE := -std=c17 $(OPT) -D_POSIX_C_SOURCE=200809L -D_DEFAULT_SOURCE -ffp-contract=off \
        -fno-math-errno -fvisibility=hidden -pthread -Iinclude -Isrc $(PKG_CFLAGS) $(SANITIZE) $(EXTRA_CFLAGS)
LIBS := $(PKG_LIBS) -lm -ldl -pthread

LIBRARY_SOURCES := $(sort $(wildcard src/*/*.c src/*/*/*.c))
# Compiled twice: as fp32 and as fp64 (see src/core/real.h).
REAL_SOURCES := $(sort $(wildcard src/ops/*.c src/router/*.c src/backend/cpu/scalar*.c))
LIBRARY_OBJECTS := $(LIBRARY_SOURCES:%.c=$(BUILD)/%.o) $(REAL_SOURCES:%.c=$(BUILD)/%.f64.o)
CLI_OBJECTS := $(patsubst %.c,$(BUILD)/%.o,$(sort $(wildcard cli/*.c)))
LIBRARY := $(BUILD)/libmixt.a

# Kernel tiers carry their own instruction sets; every other object runs on any CPU.
AVX2_FLAGS   := -mavx2 -mfma -mf16c
AVX512_FLAGS := -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma -mf16c -mprefer-vector-width=512
ISA = $(if $(findstring /avx512bf16,$<),$(AVX512_FLAGS) -mavx512bf16,$(if $(findstring /avx512,$<),$(AVX512_FLAGS),$(if $(findstring /avx2,$<),$(AVX2_FLAGS))))

all: $(BUILD)/mixt mixt

mixt: $(BUILD)/mixt
	@ln -sf $(BUILD)/mixt mixt

$(BUILD)/src/%.f64.o: src/%.c
	@mkdir -p $(@D)
	$(CC) $(BASE) $(WARN_LIBRARY) -DMIXT_REAL_DOUBLE -MMD -MP -c $< -o $@

$(BUILD)/src/%.o: src/%.c
	@mkdir -p $(@D)
	$(CC) $(BASE) $(WARN_LIBRARY) $(ISA) -MMD -MP -c $< -o $@

$(BUILD)/cli/%.o: cli/%.c
	@mkdir -p $(@D)
	$(CC) $(BASE) $(WARN) -MMD -MP -c $< -o $@

$(LIBRARY): $(LIBRARY_OBJECTS)
	@rm -f $@
	$(AR) rcs $@ $^

$(BUILD)/mixt: $(CLI_OBJECTS) $(LIBRARY)
	$(CC) $(BASE) -o $@ $(CLI_OBJECTS) $(LIBRARY) $(LIBS)

# One program for each tests/test_*.c, linked with cmocka and the other tests/*.c helpers.
TEST_SOURCES := $(sort $(wildcard tests/test_*.c))
TEST_HELPERS := $(patsubst %.c,$(BUILD)/%.o,$(sort $(filter-out $(TEST_SOURCES),$(wildcard tests/*.c))))
TEST_PROGRAMS := $(TEST_SOURCES:%.c=$(BUILD)/%)

$(BUILD)/tests/%.o: tests/%.c
	@mkdir -p $(@D)
	$(CC) $(BASE) $(WARN) -Itests -MMD -MP -c $< -o $@

$(BUILD)/tests/test_%: $(BUILD)/tests/test_%.o $(TEST_HELPERS) $(LIBRARY)
	$(CC) $(BASE) -o $@ $< $(TEST_HELPERS) $(LIBRARY) -lcmocka $(LIBS)

tests: $(TEST_PROGRAMS)

clean:
	rm -rf build mixt

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)

.PHONY: all tests clean
.SECONDARY:
