"""Says, as an import error of Airflow's, which files of config/ make no DAG, and why. The other DAGs are not affected.

Airflow reads only files that mention a dag and airflow; this docstring does. The file itself holds no DAG.
"""

from squadron.errors import SettingsError
from squadron_tasks.settings import read_config_files

if errors := read_config_files().errors:
    raise SettingsError("; ".join(str(error) for error in errors))
