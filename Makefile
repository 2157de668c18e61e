# A thin front for Meson. `make` builds build/splam; `make demo` and `make test`, each alone, do everything
# from a fresh Debian 12 machine on.
BUILD ?= build
PREFIX ?= /usr/local
MESON_FLAGS ?=

.PHONY: all dependencies test test-page test-clients demo sanitize sanitize-readers tsan fuzz fuzz-all analyze install \
	deb clean format

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD) --quiet
	@ln -sfn cli/splam $(BUILD)/splam

$(BUILD)/build.ninja:
	@command -v meson >/dev/null || \
	    { echo "meson is not installed; on Debian 12 \"make dependencies\" installs all that splam needs" >&2; exit 1; }
	@meson setup $(BUILD) --prefix $(PREFIX) $(MESON_FLAGS)

dependencies:
	@tools/install-dependencies.sh

test: dependencies
	@$(MAKE) --no-print-directory all
	@tools/run-tests.sh $(BUILD)

# The server's page in Chromium (Debian: chromium, chromium-driver, python3), with screenshots in $(BUILD)/page.
test-page: all
	@python3 tests/clients/test_page.py $(BUILD)/splam $(BUILD)/page

# Clients that people use, from PyPI, in an environment of their own.
test-clients: all
	@test -x $(BUILD)/clients/bin/python || python3 -m venv $(BUILD)/clients
	@$(BUILD)/clients/bin/pip install --quiet --requirement tests/clients/requirements.txt
	@$(BUILD)/clients/bin/python tests/clients/test_clients.py $(BUILD)/splam

demo: dependencies
	@$(MAKE) --no-print-directory all
	@./$(BUILD)/splam demo --output demo-out

# AddressSanitizer and UndefinedBehaviorSanitizer, the first finding of either being an error.
SANITIZED = BUILD=build-sanitize MESON_FLAGS="-Dbuildtype=debugoptimized -Db_sanitize=address,undefined \
	    -Db_lundef=false '-Dc_args=-fno-sanitize-recover=undefined -g1'"
sanitize: dependencies
	@$(MAKE) --no-print-directory all $(SANITIZED)
	@tools/run-tests.sh build-sanitize

# The same of the programs that give hostile input to whatever reads files and texts, built alone.
READERS = test_base test_json test_output test_visible test_dtype test_tensor test_torch_file test_gguf \
	test_packed_file test_malformed test_mapping test_inspect test_text test_t5 test_weighted_prompt \
	test_tokenizer_files test_embeddings test_image test_orientation test_picture test_image_memory test_shards \
	test_captions test_latent_cache test_recognise test_single_file test_vae_files test_lora_kinds \
	test_prediction test_f8 test_lora_forms test_distances test_embedding_scores test_score test_score_files \
	test_towers test_preference test_eval_runs test_protocols test_server test_server_a1111 test_server_jobs \
	test_server_batch test_server_watch test_server_refusals test_server_clients test_server_models \
	test_server_sockets test_server_client test_server_memory replay_tensors replay_pictures replay_text \
	replay_json replay_http replay_configs replay_tokenizers replay_adapters replay_shards replay_captions \
	replay_latents replay_checkpoints replay_subpaths replay_draws replay_words
sanitize-readers: dependencies
	@$(MAKE) --no-print-directory build-sanitize/build.ninja $(SANITIZED)
	@ninja -C build-sanitize --quiet $(addprefix tests/,$(READERS))
	@tools/run-tests.sh build-sanitize $(READERS)

# ThreadSanitizer. libgomp's barriers are not known to it, so teams of OpenMP have one thread, whatever is asked for;
# all other threads are threads: the server's, those of sessions, of data sets and of MPI.
RACING = test_base test_session test_server test_server_a1111 test_server_jobs test_server_batch test_server_watch \
	test_server_refusals test_server_clients test_server_models test_server_sockets test_server_client \
	test_server_memory test_generate test_cancel test_data test_shards test_training test_ranks
tsan: dependencies
	@$(MAKE) --no-print-directory build-tsan/build.ninja BUILD=build-tsan \
	    MESON_FLAGS="-Dbuildtype=debugoptimized -Db_sanitize=thread -Db_lundef=false -Dc_args=-g1"
	@ninja -C build-tsan --quiet cli/splam $(addprefix tests/,$(RACING))
	@OMP_THREAD_LIMIT=1 TSAN_OPTIONS="history_size=4 suppressions=$(CURDIR)/tests/tsan.suppressions $(TSAN_OPTIONS)" \
	    tools/run-tests.sh build-tsan $(RACING)

# One of clang's fuzzers (Debian: clang), of those that fuzz/ has: make fuzz TARGET=http SECONDS=600
TARGET ?= http
SECONDS ?= 60
fuzz: all
	@command -v clang >/dev/null || { echo "clang is not installed; on Debian 12 apt-get install clang" >&2; exit 1; }
	@test -f fuzz/fuzz_$(TARGET).c || { echo "there is no fuzz/fuzz_$(TARGET).c" >&2; exit 1; }
	@$(MAKE) --no-print-directory -f fuzz/Makefile TARGET=$(TARGET) SECONDS=$(SECONDS)

# Each of them for a while; the last line is the total.
fuzz-all:
	@passed=0; failed=0; for file in $$(grep -l LLVMFuzzerTestOneInput fuzz/fuzz_*.c); do \
	    target=$${file#fuzz/fuzz_}; \
	    if $(MAKE) --no-print-directory fuzz TARGET=$${target%.c} SECONDS=$(SECONDS); then passed=$$((passed + 1)); \
	    else failed=$$((failed + 1)); fi; \
	done; echo "$$passed passed, $$failed failed"; [ $$failed -eq 0 ]

# Static analysis (Debian: cppcheck, clang-tidy); not a part of the tests.
analyze: all
	@tools/analyze.sh $(BUILD)

install: all
	@meson configure $(BUILD) --prefix $(PREFIX)
	@DESTDIR="$(DESTDIR)" meson install -C $(BUILD) --quiet

# A Debian package of what `make install` installs, in this folder.
deb: all
	@tools/make-deb.sh $(BUILD)

clean:
	@rm -rf build build-sanitize build-tsan build-fuzz

format:
	@git ls-files '*.c' '*.h' | xargs clang-format -i
