"""Says, as an import error of Airflow's, which files of config/ make no DAG, and why. The other DAGs go on.

Airflow reads files that speak of a dag and of airflow: this one holds none.
"""

from run_settings import configured

from pipelines.errors import SettingsError
from pipelines.resolution import collections

if broken := [str(found) for name in collections() if isinstance(found := configured(name), SettingsError)]:
    raise SettingsError("; ".join(broken))
