FROM python:3.12-slim

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore

RUN useradd --create-home --uid 10001 eventlog

WORKDIR /app
# The pattern lets README.md be absent without failing the build.
COPY pyproject.toml constraints.txt LICENSE README.m[d] ./
COPY eventlog ./eventlog
COPY server ./server
RUN pip install -c constraints.txt '.[all]'

USER eventlog
EXPOSE 8707
CMD ["eventlog", "serve"]
