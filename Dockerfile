# The image of the example project: web server, workers, beat and sandbox, by command. A host needs the same few lines.
# No secret is part of the image: the settings read them at start, from the files that variables such as
# SECRET_KEY_FILE name.

FROM python:3.13-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
RUN python -m venv /venv && /venv/bin/pip install --quiet 'pip>=25.1'
COPY pyproject.toml requirements.lock README.md LICENSE ./
COPY evermuse_outbox evermuse_outbox
# The lock file also has the tools for development. As constraints, it only fixes the versions.
RUN grep --invert-match -- --hash requirements.lock | sed 's/ \\$//' > constraints.txt \
    && /venv/bin/pip install --constraint constraints.txt --group example --group deployment '.[sandbox]'

FROM python:3.13-slim
RUN groupadd --system --gid 10001 app \
    && useradd --system --uid 10001 --gid app --home-dir /var/lib/app --create-home app
COPY --from=build /venv /venv
WORKDIR /app
COPY manage.py ./
COPY example_project example_project
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DEBUG=false \
    EXAMPLE_VAR_DIR=/var/lib/app
USER 10001:10001
VOLUME /var/lib/app
EXPOSE 8000
# The form with brackets: the server is process 1, so it receives SIGTERM itself.
CMD ["gunicorn", "example_project.wsgi", "--bind", "0.0.0.0:8000", "--workers", "2", "--threads", "4"]
