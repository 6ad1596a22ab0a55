# The image of every Airflow service: Airflow's own, with requirements.txt and the project in it.
FROM apache/airflow:3.3.2-python3.11

# PyPI's torch brings several GB of CUDA along. An index of CPU builds, named in .env, gives the small one:
# pip takes torch==N+cpu from there for the torch==N of requirements.txt.
ARG PIP_EXTRA_INDEX_URL=""

# config/ and the state are where the checkout has them, so relative paths mean the same.
ENV SQUADRON_HOME=/opt/airflow \
    HF_HOME=/opt/airflow/.squadron/huggingface

# A new volume takes the owner of the folder that it covers. Root's could not be written to.
RUN mkdir --parents /opt/airflow/.squadron /opt/airflow/passwords /tmp/squadron

COPY requirements.txt /tmp/squadron/
RUN pip install --no-cache-dir --requirement /tmp/squadron/requirements.txt

COPY --chown=airflow:root pyproject.toml README.md LICENSE /tmp/squadron/
COPY --chown=airflow:root pipelines/ /tmp/squadron/pipelines/
RUN pip install --no-cache-dir --no-deps /tmp/squadron

COPY --chown=airflow:root config/ /opt/airflow/config/
COPY --chown=airflow:root plugins/ /opt/airflow/plugins/
COPY --chown=airflow:root dags/ /opt/airflow/dags/
