"""Says, as an import error of Airflow's, which files of config/ make no DAG, and why. The other DAGs are not affected.

Airflow reads only files that mention a dag and airflow; this docstring does. The file itself holds no DAG.
"""

try:
    import squadron  # noqa: F401
    import squadron_tasks  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"{error.name} is not installed where Airflow runs. In a checkout of Squadron say: "
        "pip install --requirement requirements.txt . ; and put the files of plugins/ into Airflow's plugins folder"
    ) from error

from squadron.errors import SettingsError
from squadron_tasks.settings import read_config_files

if errors := read_config_files().errors:
    raise SettingsError("; ".join(str(error) for error in errors))
