# Programs that time parts of the library; none is part of `make check`.
BENCH_PROGRAMS := $(BUILD)/bench/gemm $(BUILD)/bench/matrix $(BUILD)/bench/real_shapes $(BUILD)/bench/random_model \
                  $(BUILD)/bench/many_sequences $(BUILD)/bench/attention $(BUILD)/bench/text_speed \
                  $(BUILD)/bench/pad_experts $(BUILD)/bench/disk $(BUILD)/bench/network $(BUILD)/bench/ranks_step \
                  $(BUILD)/bench/slow_wire
bench-build: $(BENCH_PROGRAMS) ## all of them

.PHONY: bench-build

$(BUILD)/bench/%.o: bench/%.c
	@mkdir -p $(@D)
	$(CC) $(BASE) $(WARN) -MMD -MP -c $< -o $@

$(BUILD)/bench/gemm: $(BUILD)/bench/gemm.o $(LIBRARY)
	$(LINK) -o $@ $^ $(LIBS)

bench-gemm: $(BUILD)/bench/gemm ## matrix products against OpenBLAS and the peak; THREADS=n ROUNDS=n
	$(BUILD)/bench/gemm $(or $(THREADS),0) $(or $(ROUNDS),7)

.PHONY: bench-gemm

$(BUILD)/bench/real_shapes: $(BUILD)/bench/real_shapes.o $(LIBRARY)
	$(LINK) -o $@ $^ $(LIBS)

bench-shapes: $(BUILD)/bench/real_shapes ## the generator of GGUF files of real shapes with random weights

.PHONY: bench-shapes

$(BUILD)/bench/random_model: $(BUILD)/bench/random_model.o $(LIBRARY)
	$(LINK) -o $@ $^ $(LIBS)

$(BUILD)/bench/pad_experts: $(BUILD)/bench/pad_experts.o $(LIBRARY)
	$(LINK) -o $@ $^ $(LIBS)

$(BUILD)/bench/many_sequences: $(BUILD)/bench/many_sequences.o $(LIBRARY)
	$(LINK) -o $@ $^ $(LIBS)

bench-many: $(BUILD)/bench/many_sequences ## sequences decoded together against one; FILE=GGUF TOKENS=n PROMPT=n THREADS=n
	$(BUILD)/bench/many_sequences $(FILE) $(or $(TOKENS),64) $(or $(PROMPT),64) $(or $(THREADS),0)

.PHONY: bench-many

$(BUILD)/bench/attention: $(BUILD)/bench/attention.o $(LIBRARY)
	$(LINK) -o $@ $^ $(LIBS)

bench-attention: $(BUILD)/bench/attention ## single rows over a cache against reading; THREADS=n ROUNDS=n
	$(BUILD)/bench/attention $(or $(THREADS),0) $(or $(ROUNDS),5)

.PHONY: bench-attention

# with LLAMA=TREE of llama.cpp and BIN=FOLDER of its libllama.so also the same for it
$(BUILD)/bench/text_speed: $(BUILD)/bench/text_speed.o $(LIBRARY)
	$(LINK) -o $@ $^ $(LIBS)

bench-text-llama: ## text_speed for llama.cpp; LLAMA=TREE BIN=FOLDER of its libraries
	@mkdir -p $(BUILD)/bench
	$(CC) -O2 -I $(LLAMA)/include -I $(LLAMA)/ggml/include bench/text_speed_llama.c -o $(BUILD)/bench/text_speed_llama \
	    -L $(BIN) -lllama -lggml -lggml-base -Wl,-rpath,$(abspath $(BIN))

.PHONY: bench-text-llama

$(BUILD)/bench/matrix: $(BUILD)/bench/matrix.o $(LIBRARY)
	$(LINK) -o $@ $^ $(LIBS)

bench-matrix: $(BUILD)/bench/matrix ## products with quantised weights against reading and the peak; THREADS=n ROUNDS=n TYPE=Q4_K
	$(BUILD)/bench/matrix $(or $(THREADS),0) $(or $(ROUNDS),5) $(or $(TYPE),all)

.PHONY: bench-matrix

$(BUILD)/bench/disk: $(BUILD)/bench/disk.o $(LIBRARY)
	$(LINK) -o $@ $^ $(LIBS)

bench-disk: $(BUILD)/bench/disk ## how fast FILE is read by both readers of the store
	$(BUILD)/bench/disk $(FILE)

.PHONY: bench-disk

$(BUILD)/bench/network $(BUILD)/bench/ranks_step: %: %.o $(LIBRARY)
	$(LINK) -o $@ $^ $(LIBS)

$(BUILD)/bench/slow_wire: $(BUILD)/bench/slow_wire.o
	$(LINK) -o $@ $^

bench-ranks: all $(BUILD)/bench/network $(BUILD)/bench/ranks_step ## ranks on this machine against one, and against what mixt info --plan train --ranks says; RANKS="scaling curves"
	bench/ranks.py $(RANKS)

.PHONY: bench-ranks

bench-tables: all bench-build ## every table of docs/performance.md; LLAMA=FOLDER ... as bench/performance_tables.sh says
	bench/performance_tables.sh $(TABLES)

.PHONY: bench-tables
