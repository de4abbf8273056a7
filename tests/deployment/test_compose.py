import re

import pytest
import yaml

from gateway.settings import Settings, environment_name, load_settings
from tests.deployment.tools import ROOT, run_tool

FILES = ["compose.yaml", "compose.s3.yaml"]
SETTING_NAMES = {environment_name(field) for field in Settings.__struct_fields__}
COMPOSE = {name: yaml.safe_load((ROOT / name).read_text()) for name in FILES}


def test_the_files_keep_to_the_compose_schema():
    judged = run_tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", *FILES)
    assert judged.returncode == 0, judged.stdout


@pytest.mark.parametrize("name", FILES)
def test_every_setting_is_one_that_the_program_reads(name):
    environment = COMPOSE[name]["services"]["titlebout"]["environment"]
    given = {key: value for key, value in environment.items() if key.startswith("TITLEBOUT_")}
    assert given.keys() <= SETTING_NAMES
    # What comes from .env is there only when it runs.
    load_settings(environment={key: value for key, value in given.items() if not value.startswith("${")})


def test_secrets_come_from_outside_and_are_never_written_here():
    for name in FILES:
        for service in COMPOSE[name]["services"].values():
            for key, value in service.get("environment", {}).items():
                if re.search("KEY|TOKEN|SECRET|PASSWORD|URL$", key):
                    assert "${" in value, f"{key} of {name} is written out"


def test_the_server_finds_the_database_that_stands_beside_it():
    services = COMPOSE["compose.yaml"]["services"]
    database = services["database"]["environment"]
    url = services["titlebout"]["environment"]["TITLEBOUT_DATABASE_URL"]
    user, password, name = (database[f"POSTGRES_{part}"] for part in ("USER", "PASSWORD", "DB"))
    assert url == f"postgresql://{user}:{password}@database:5432/{name}"


def test_nothing_is_published_beyond_this_machine():
    for compose in COMPOSE.values():
        for service in compose["services"].values():
            assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_requests_in_flight_have_time_to_finish():
    service = COMPOSE["compose.yaml"]["services"]["titlebout"]
    grace_s = int(re.fullmatch(r"(\d+)s", service["stop_grace_period"])[1])
    assert grace_s > load_settings(environment={}).drain_timeout_s


def test_the_container_writes_to_its_volume_and_nowhere_else():
    service = COMPOSE["compose.yaml"]["services"]["titlebout"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["volumes"] == [f"data:{service['environment']['TITLEBOUT_DATA']}"]
