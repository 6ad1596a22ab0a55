"""Says, as an import error of Airflow's, which files of config/ make no DAG, and why. The other DAGs go on.

Airflow reads files that speak of a dag and of airflow: this one holds none.
"""

from squadron.errors import SettingsError
from squadron.settings.layers import collections
from squadron_tasks.settings import configured

if broken := [str(found) for name in collections() if isinstance(found := configured(name), SettingsError)]:
    raise SettingsError("; ".join(broken))
