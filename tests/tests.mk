# Rules of the Makefile for what tests use besides unit tests.

# Small programs that tests run.
$(BUILD)/tools/%: tests/tools/%.c $(BUILD)/libfarseek.a Makefile
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) $(LDSAN) $< $(BUILD)/libfarseek.a $(LDLIBS_LIB) -o $@

# Speculative decoding against plain decoding, over more prompts than `make unit` takes.
speculation: $(BUILD)/unit/test_speculate
	FARSEEK_TEST_PROMPTS=4000 $(RUNNER) $<

# The hub killed 200 times at random moments of everything that writes, and 40 times with an S3 store (CI: 5 and 3 times): nothing acknowledged is lost. Half an hour.
FARSEEK_VENV ?= $(HOME)/.cache/farseek/venv
soak-hub: $(BUILD)/farseek
	FARSEEK_KILLS=$(or $(KILLS),200) $(FARSEEK_VENV)/bin/python -m pytest -q -s tests/e2e/test_hub_kills.py

# Every tests/fuzz/fuzz_X.c with libFuzzer, from the seeds in tests/fuzz/corpus/X; what it finds stays in build-fuzz.
# Linked with the modules that read foreign bytes, so that no kernel is compiled again.
#   FUZZ_RUNS=20000   inputs each             FUZZ_SECONDS=n   or until n seconds have passed
FUZZ_RUNS ?= 20000
FUZZ_SRC  := $(sort $(wildcard tests/fuzz/fuzz_*.c))
FUZZ_BIN  := $(FUZZ_SRC:tests/fuzz/%.c=$(BUILD)/fuzz/%)
FUZZ_OBJ  := $(filter $(foreach m,base crypto tensor formats lineage text data,$(BUILD)/$(m)/%) $(BUILD)/train/recipe.o $(BUILD)/train/schedule.o $(BUILD)/train/policy.o $(BUILD)/train/suite.o $(BUILD)/train/metrics.o $(BUILD)/train/events.o $(BUILD)/train/chart.o $(BUILD)/train/report.o $(BUILD)/kernels/math.o,$(LIB_OBJ)) $(filter $(BUILD)/hub/xet_hash.o $(BUILD)/hub/xet_xorb.o $(BUILD)/hub/xet_shard.o $(BUILD)/hub/ndjson.o $(BUILD)/hub/refs_feed.o $(BUILD)/hub/oms.o $(BUILD)/hub/pickle.o $(BUILD)/hub/markdown.o $(BUILD)/hub/form.o $(BUILD)/hub/lfs_batch.o $(BUILD)/hub/zip.o $(BUILD)/hub/bencode.o $(BUILD)/hub/pieces.o $(BUILD)/hub/torrent_file.o $(BUILD)/net/url.o $(BUILD)/net/multipart.o $(BUILD)/net/s3_xml.o,$(PROGRAM_OBJ))
$(BUILD)/fuzz/%: tests/fuzz/%.c $(FUZZ_OBJ) Makefile
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) -Itests -fsanitize=fuzzer $(filter %.c %.o,$^) $(LDLIBS_LIB) $(LDLIBS_PROGRAM) -o $@
fuzz:
	$(MAKE) BUILD=build-fuzz CC=clang CFLAGS="-O1 -g -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all" fuzz-run
fuzz-run: $(FUZZ_BIN:$(BUILD)/fuzz/fuzz_%=fuzz-run-%)
fuzz-run-%: $(BUILD)/fuzz/fuzz_%
	@mkdir -p $(BUILD)/corpus/$* tests/fuzz/corpus/$*
	@$< -runs=$(FUZZ_RUNS) $(if $(FUZZ_SECONDS),-max_total_time=$(FUZZ_SECONDS)) -timeout=60 -rss_limit_mb=2048 -print_final_stats=1 \
	  -artifact_prefix=$(BUILD)/$*- $(BUILD)/corpus/$* tests/fuzz/corpus/$* >$(BUILD)/$*.log 2>&1 || { tail -40 $(BUILD)/$*.log; exit 1; }
	@echo "$*: $$(grep -o 'executed_units.*' $(BUILD)/$*.log)"
.SECONDARY: $(FUZZ_BIN)
.PHONY: fuzz fuzz-run speculation soak-hub
