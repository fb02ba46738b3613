# classify on CPUs. The CPU build of torch comes from an index of its own; name it, as
# https://pytorch.org/get-started/locally/ shows it for CPU:
#
#   docker build -t classify --build-arg TORCH_INDEX=URL .
#   docker run --rm -u "$(id -u)" -v "$PWD:/data" classify \
#     predict tickets.csv --labels billing,shipping -o out.csv
#
# Without TORCH_INDEX, torch comes with CUDA libraries and the image is some GB larger.
FROM python:3.12-slim

ARG TORCH_INDEX=""
ENV PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1 HF_HOME=/models

WORKDIR /src
COPY pyproject.toml README.md LICENSE requirements.lock ./
COPY classify classify
RUN if [ -n "$TORCH_INDEX" ]; then \
      pip install -c requirements.lock --index-url "$TORCH_INDEX" torch; fi \
 && pip install -c requirements.lock '.[files,plots,serve,server]' \
 && mkdir -m 777 /models

WORKDIR /data
ENTRYPOINT ["classify"]
CMD ["--help"]
