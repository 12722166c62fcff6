# docker build -t adaptune . && docker run --rm -v "$PWD/demo:/demo" adaptune
# runs the demo, without any network, and leaves its page in ./demo. Any command may stand behind.
FROM python:3.11-slim
WORKDIR /adaptune
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip install --no-cache-dir '.[demo]'
WORKDIR /
ENTRYPOINT ["adaptune"]
CMD ["demo", "--out", "/demo"]
