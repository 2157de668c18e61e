# A thin front for Meson. `make` builds build/splam; `make demo` and `make test`, each alone, do everything
# from a fresh Debian 12 machine on.
BUILD ?= build
PREFIX ?= /usr/local
MESON_FLAGS ?=

.PHONY: all dependencies test demo sanitize install clean format

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

demo: dependencies
	@$(MAKE) --no-print-directory all
	@./$(BUILD)/splam demo --output demo-out

# AddressSanitizer and UndefinedBehaviorSanitizer, the first finding of either being an error.
sanitize: dependencies
	@$(MAKE) --no-print-directory all BUILD=build-sanitize MESON_FLAGS="-Dbuildtype=debugoptimized \
	    -Db_sanitize=address,undefined -Db_lundef=false -Dc_args=-fno-sanitize-recover=undefined"
	@tools/run-tests.sh build-sanitize

install: all
	@meson configure $(BUILD) --prefix $(PREFIX)
	@DESTDIR="$(DESTDIR)" meson install -C $(BUILD) --quiet

clean:
	@rm -rf build build-sanitize

format:
	@git ls-files '*.c' '*.h' | xargs clang-format -i
