# `make demo`, `make test` and `make check` set everything up on a fresh machine; repeated, they start at once.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: demo test check clean

demo: $(VENV)/.installed
	$(RUN) run_gan.py train --out runs/quickstart
	$(RUN) run_gan.py evaluate runs/quickstart --count 2000 --real-count 2000 --precision auto
	$(RUN) run_gan.py sample runs/quickstart
	@echo
	@echo "What you could type next, after: source $(VENV)/bin/activate"
	@echo "  python run_gan.py sample runs/quickstart --interpolate          walks between pictures"
	@echo "  python run_gan.py train configs/cifar10/dcgan_cpu.yaml          a DCGAN on CIFAR-10, which is downloaded, or GAN_DATA=FOLDER"
	@echo "  python run_gan.py compare configs/studies/kernels_shapes.yaml   two kernels, two seeds, one table"

test: $(VENV)/.installed
	$(RUN) -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

check: $(VENV)/.installed
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(RUN) -m pyright

# What is in $(VENV) already, such as a CPU build of torch, is kept where it is new enough.
$(VENV)/.installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --requirement requirements.txt
	touch $@

clean:
	rm -rf $(VENV) runs/quickstart
