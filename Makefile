# Farseek. `make` leaves build/farseek and build/libfarseek.a; `make run` chats; `make test` tests; `make help` lists.
#   CC=clang         another compiler            BUILD=build-x   another folder
#   SAN=1            ASan + UBSan                CROSS=aarch64   cross build (run under qemu-user)
#   HUB=             without the hub and its clients, and none of their packages (cross builds: Debian's libgit2-dev is of one architecture only)
CC      ?= gcc
PREFIX  ?= /usr/local
VERSION := 0.1.0
ifeq ($(origin CC),default)
CC := gcc
endif
ifeq ($(CROSS),aarch64)
CC := aarch64-linux-gnu-gcc
PKG_CONFIG := PKG_CONFIG_LIBDIR=/usr/lib/aarch64-linux-gnu/pkgconfig:/usr/share/pkgconfig pkg-config
BUILD ?= build-aarch64
RUNNER := qemu-aarch64 -L /
else
PKG_CONFIG ?= pkg-config
endif
BUILD   ?= $(if $(SAN),build-san,build)
ARCH    := $(firstword $(subst -, ,$(shell $(CC) -dumpmachine)))

# The modules, bottom to top: a folder uses only folders before it in this list.
HUB ?= $(if $(CROSS),,1)
MODULES  := base crypto $(if $(HUB),net) tensor kernels formats lineage $(if $(HUB),hub) text data models engine train cli
# Of the program alone: the library has neither servers nor commands, and needs none of their packages.
PROGRAM_MODULES := net hub cli
PACKAGES := json-c libpcre2-8 libutf8proc libcrypto libsodium yaml-0.1 gmp mpfr
PROGRAM_PACKAGES := libedit $(if $(HUB),libmicrohttpd libcurl libgit2 sqlite3 liblz4 zlib libcmark-gfm)

# No contraction anywhere, in gcc's or clang's intrinsics either: RN1 section 0. And no automatic vectoriser: gcc 12's
# makes vfmaddsub of a*c - b*s beside b*c + a*s in spite of -ffp-contract=off. Kernels are vectorised by hand.
CFLAGS   ?= -O2 -g
CFLAGS_ALL := $(CFLAGS) -std=c11 -Wall -Wextra -Werror -ffp-contract=off -fno-tree-vectorize -fno-math-errno -fvisibility=hidden \
              -Iinclude -Isrc -I$(BUILD) -D_GNU_SOURCE -DFS_VERSION='"$(VERSION)"' -pthread -MMD -MP
CFLAGS_ALL += $(shell $(PKG_CONFIG) --cflags $(PACKAGES))
ifeq ($(HUB),)
CFLAGS_ALL += -DFS_NO_HUB
endif
ifeq ($(SAN),1)
CFLAGS_ALL += -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
LDSAN := -fsanitize=address,undefined
endif
ifeq ($(ARCH),x86_64)
ISA_SUFFIXES := avx2 avx512 vnni bf16
CFLAGS_ALL += -mfma
endif
ifeq ($(ARCH),aarch64)
ISA_SUFFIXES := neon dotprod i8mm
endif
# gcc 12 takes minutes over a file of kernels at -O3 with sanitizers.
KERNEL_FLAGS  := $(if $(SAN),-O1,-O3)
FLAGS_avx2    := -mavx2 -mfma -mf16c
FLAGS_avx512  := -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mf16c -mprefer-vector-width=512
FLAGS_vnni    := $(FLAGS_avx512) -mavx512vnni
FLAGS_bf16    := $(FLAGS_avx512) -mavx512bf16
FLAGS_neon    :=
FLAGS_dotprod := -march=armv8.2-a+dotprod
FLAGS_i8mm    := -march=armv8.2-a+dotprod+i8mm
LDLIBS_LIB    := $(shell $(PKG_CONFIG) --libs $(PACKAGES)) -lm -pthread
LDLIBS_PROGRAM := $(shell $(PKG_CONFIG) --libs $(PROGRAM_PACKAGES)) $(if $(HUB),-lcmark-gfm-extensions -lcmark-gfm)

ALL_ISA  := avx2 avx512 vnni bf16 neon dotprod i8mm
SKIP_ISA := $(filter-out $(ISA_SUFFIXES),$(ALL_ISA))
SRC      := $(foreach m,$(MODULES),$(sort $(wildcard src/$(m)/*.c)))
SRC      := $(filter-out $(foreach s,$(SKIP_ISA),%_$(s).c) $(if $(HUB),,src/cli/cmd_hub% src/cli/cmd_pull.c src/cli/cmd_push.c src/cli/hub_cli.c src/cli/pull_cli.c),$(SRC))
PROGRAM_SRC := $(filter $(PROGRAM_MODULES:%=src/%/%),$(SRC))
LIB_SRC  := $(filter-out $(PROGRAM_SRC),$(SRC))
LIB_OBJ  := $(LIB_SRC:src/%.c=$(BUILD)/%.o)
PROGRAM_OBJ := $(PROGRAM_SRC:src/%.c=$(BUILD)/%.o)

all: $(BUILD)/farseek $(BUILD)/libfarseek.a

isa_of = $(foreach s,$(ALL_ISA),$(if $(filter %_$(s).o,$(1)),$(FLAGS_$(s))))
$(BUILD)/%.o: src/%.c Makefile
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) $(if $(filter kernels tensor,$(firstword $(subst /, ,$*))),$(KERNEL_FLAGS)) $(call isa_of,$@) -c $< -o $@

# Which source a record says made a model.
$(BUILD)/cli/origin.o: $(BUILD)/commit.h
$(BUILD)/commit.h: FORCE
	@mkdir -p $(@D); t=$@.$$$$; \
	echo "#define FS_COMMIT \"$$(git describe --always --abbrev=12 --dirty --exclude='*' 2>/dev/null || echo unknown)\"" > $$t; \
	if cmp -s $$t $@; then rm $$t; else mv $$t $@; fi
FORCE:

$(BUILD)/libfarseek.a: $(LIB_OBJ)
	@rm -f $@
	ar rcs $@ $^

$(BUILD)/farseek: $(PROGRAM_OBJ) $(BUILD)/libfarseek.a
	$(CC) $(LDSAN) $(LDFLAGS) $^ $(LDLIBS_LIB) $(LDLIBS_PROGRAM) -o $@.new
	@mv $@.new $@ # at once: the old one may be in use

# Unit tests: tests/unit/test_X.c tests src/*/X.c and links only the modules up to X's own, or up to MODULE_X.
MODULE_backward := train
UNIT_SRC := $(sort $(wildcard tests/unit/test_*.c))
UNIT_BIN := $(UNIT_SRC:tests/unit/%.c=$(BUILD)/unit/%)
module_of   = $(or $(MODULE_$(1)),$(word 2,$(subst /, ,$(firstword $(wildcard src/*/$(1).c src/*/$(1)_ref.c src/*/$(1).h)))),engine)
modules_to  = $(if $(filter $(1),$(firstword $(2))),$(1),$(firstword $(2)) $(call modules_to,$(1),$(wordlist 2,99,$(2))))
objects_to  = $(filter $(foreach m,$(call modules_to,$(call module_of,$(1)),$(MODULES)),$(BUILD)/$(m)/%),$(LIB_OBJ) $(if $(filter $(PROGRAM_MODULES),$(call module_of,$(1))),$(filter-out %/main.o,$(PROGRAM_OBJ))))
.SECONDEXPANSION:
$(BUILD)/unit/test_%: tests/unit/test_%.c $$(call objects_to,$$*) Makefile
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) -Itests $(LDSAN) $< $(filter %.o,$^) -lcmocka $(LDLIBS_LIB) $(if $(filter $(PROGRAM_MODULES),$(call module_of,$*)),$(LDLIBS_PROGRAM)) $(if $(findstring WRAP_ALLOC,$(shell head -5 $<)),-Wl$(comma)--wrap=malloc$(comma)--wrap=calloc$(comma)--wrap=realloc$(comma)--wrap=aligned_alloc) -o $@
comma := ,
unit-build: $(UNIT_BIN)
unit: unit-build
	@set -e; for t in $(UNIT_BIN); do echo "== $$t"; $(RUNNER) $$t; done

include tests/tests.mk

# Measuring programs: bench/X.c. `ulp` needs gcc on x86 for its quadruple precision.
LIBS_ulp := -lquadmath
$(BUILD)/bench/%: bench/%.c bench/measure.h $(BUILD)/libfarseek.a Makefile
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) $(LDSAN) $< $(BUILD)/libfarseek.a $(LIBS_$*) $(LDLIBS_LIB) -o $@
# bench-X writes bench/results/X.csv.
LIBS_gemm := -ldl
BENCHES   := attention gemm limits pool quants sampler train
bench-attention: # attention kernels on one core
bench-gemm:      # products against OpenBLAS (Debian: libopenblas0)
bench-limits:    # what the machine can
bench-pool:      # what a region of the pool costs
bench-quants:    # quantised products against the limits
bench-sampler:   # a draw over a large vocabulary
bench-train:     # training steps of small models
$(BENCHES:%=bench-%): bench-%: $(BUILD)/bench/%
	@mkdir -p bench/results
	$< "$$(git describe --always --dirty)" > bench/results/$*.csv
bench-tokenizer: $(BUILD)/bench/tokenizer # TOKENIZERS: the folder that tests/e2e/test_tokenizer.py fills
	python3 bench/tokenizer.py $(or $(TOKENIZERS),$(HOME)/.cache/farseek-tests) $< bench/results/tokenizer.csv
ulp: $(BUILD)/bench/ulp
	$< exp log log1p sin cos erf exp64 log64 log1p64 sincos64 pow64 lanes

# A first answer: installs what is missing, builds, obtains a small model, chats (or answers what is piped in).
run:
	@tools/run.sh
# farseek-mini, a reasoning model that this program made, on problems that it never saw. SEED=N, COUNT=N.
demo:
	@tools/demo.sh
# The same model once more from nothing, and that of the tree verified by it. OUT=FOLDER.
remake:
	@tools/remake.sh

# ---- install ----
DESTDIR ?=
BINDIR := $(PREFIX)/bin
LIBDIR := $(PREFIX)/lib
SHARE  := $(PREFIX)/share
MINI   := $(SHARE)/farseek/farseek-mini
INSTALLED := $(BINDIR)/farseek $(LIBDIR)/libfarseek.a $(LIBDIR)/pkgconfig/farseek.pc $(PREFIX)/include/farseek.h \
             $(SHARE)/man/man1/farseek.1 $(SHARE)/bash-completion/completions/farseek $(SHARE)/zsh/site-functions/_farseek \
             $(SHARE)/fish/vendor_completions.d/farseek.fish

# There is no shared library, so whoever links needs what it needs: Requires, not Requires.private.
define PC
Name: farseek
Description: Runs open models with the same bits on every machine
Version: $(VERSION)
Requires: $(PACKAGES)
Libs: -L$(LIBDIR) -lfarseek -lm -pthread
Cflags: -I$(PREFIX)/include
endef
export PC

install: $(BUILD)/farseek $(BUILD)/libfarseek.a
	install -d $(addprefix $(DESTDIR),$(sort $(dir $(INSTALLED))))
	install -m 755 $(BUILD)/farseek $(DESTDIR)$(BINDIR)/farseek
	install -m 644 $(BUILD)/libfarseek.a $(DESTDIR)$(LIBDIR)/libfarseek.a
	install -m 644 include/farseek.h $(DESTDIR)$(PREFIX)/include/farseek.h
	echo "$$PC" > $(DESTDIR)$(LIBDIR)/pkgconfig/farseek.pc
	install -d $(DESTDIR)$(MINI)
	install -m 644 $(wildcard models/farseek-mini/*) $(DESTDIR)$(MINI)
	$(RUNNER) $(BUILD)/farseek help --man > $(DESTDIR)$(SHARE)/man/man1/farseek.1
	$(RUNNER) $(BUILD)/farseek help --completion bash > $(DESTDIR)$(SHARE)/bash-completion/completions/farseek
	$(RUNNER) $(BUILD)/farseek help --completion zsh > $(DESTDIR)$(SHARE)/zsh/site-functions/_farseek
	$(RUNNER) $(BUILD)/farseek help --completion fish > $(DESTDIR)$(SHARE)/fish/vendor_completions.d/farseek.fish

uninstall:
	rm -f $(addprefix $(DESTDIR),$(INSTALLED))
	rm -rf $(DESTDIR)$(MINI)

# The example, against the tree; examples/answer.c tells how against an installed Farseek.
example: $(BUILD)/answer
$(BUILD)/answer: examples/answer.c $(BUILD)/libfarseek.a
	$(CC) $(CFLAGS_ALL) $(LDSAN) $^ $(LDLIBS_LIB) -o $@

# Every test CI runs; installs what is missing.
test:
	@tools/test.sh
san:
	$(MAKE) SAN=1 all unit
help:
	@echo 'make             build/farseek and build/libfarseek.a'
	@echo 'make run         fetch a small model and chat; with text piped in, the answer alone'
	@echo 'make demo        a reasoning model that this program made, on problems it never saw'
	@echo 'make test        everything CI runs          make unit   the unit tests of this build'
	@echo 'make san         unit tests under ASan and UBSan'
	@echo 'make soak-hub    a hub killed 200 times while everything writes; KILLS=N'
	@echo 'make speculation speculative against plain decoding, 4,000 prompts'
	@echo 'make fuzz        every fuzz target; FUZZ_RUNS and FUZZ_SECONDS limit each'
	@echo 'make bench-gemm  products against OpenBLAS; bench-attention, bench-limits, bench-pool, bench-quants, bench-sampler, bench-tokenizer, bench-train, ulp: bench/'
	@echo 'make install     PREFIX=/usr/local DESTDIR=; make uninstall'

clean:
	rm -rf build build-*

-include $(wildcard $(BUILD)/*/*.d)
.PHONY: FORCE all unit unit-build ulp $(BENCHES:%=bench-%) bench-tokenizer run demo remake test san help install uninstall example clean
