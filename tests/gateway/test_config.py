"""The configuration file: right ones are typed, wrong ones tell every fault with its line."""

import json
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

import protocols
from gateway.cli import group
from gateway.cli.doctor import check_models
from gateway.cli.schema import EXAMPLE, json_schema
from gateway.config import load, parse
from gateway.core.errors import ConfigError
from gateway.toml_lines import locate
from tests.models import bundles

HEAD = """\
[[source]]
kind = "modbus"
id = "plc"
url = "tcp://192.0.2.10:502"
"""
ONE = '{ asset = "press", signal = "speed", unit = "rpm", address = "holding:1" }'


def faults(text: str, folder: Path = Path()) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, folder / "forewarn.toml")
    return [str(fault) for fault in caught.value.faults]


def test_the_example_that_we_print_is_valid_and_checks() -> None:
    config = parse(EXAMPLE, Path("forewarn.toml"))
    assert [source.id for source in config.sources] == ["press-plc"]
    assert config.settings.asset[0].limits[0].high_high == 95
    assert config.data_dir.name == "data"


def test_zones_of_vibration_are_for_a_velocity() -> None:
    limit = '{ signal = "speed", iso_20816 = "2 rigid" }'
    asset = f'[[asset]]\nid = "press"\nlimits = [ {limit} ]\n'
    (told,) = faults(f"{HEAD}signals = [ {ONE} ]\n{asset}")
    assert "asset[0].limits[0].iso_20816: is for a velocity in mm/s, speed is in 'rpm'" in told
    right = ONE.replace("rpm", "mm/s")
    assert parse(f"{HEAD}signals = [ {right} ]\n{asset}", Path("f.toml")).settings.asset


def test_a_bearings_speed_is_a_signal_in_rpm() -> None:
    def text(unit: str, speed: str) -> str:
        one = ONE.replace("rpm", unit)
        bearing = f'[asset.bearing]\nnumber = "6205"\nspeed = "{speed}"\n'
        return f'{HEAD}signals = [ {one} ]\n[[asset]]\nid = "press"\n{bearing}'

    (told,) = faults(text("rpm", "sped"))
    assert "asset[0].bearing.speed: press has no signal 'sped'; did you mean 'speed'?" in told
    (told,) = faults(text("Hz", "speed"))
    assert "asset[0].bearing.speed: must be in rpm, speed is in 'Hz'; scale = 60" in told
    made = '[[derive]]\nasset = "press"\nsignal = "shaft"\nexpression = "speed / 4"\n'
    assert parse(text("rpm", "shaft") + made, Path("f.toml")).settings.asset


def test_a_tachometer_is_an_array() -> None:
    shaft = '[asset.shaft]\nspeed = "speed"\npulses_per_turn = 1\n'
    (told,) = faults(f'{HEAD}signals = [ {ONE} ]\n[[asset]]\nid = "press"\n{shaft}')
    assert "asset[0].shaft.speed: pulses must be an array, speed is none; give it rate_hz" in told


def test_every_fault_is_told_at_once_each_with_its_line() -> None:
    text = (
        HEAD
        + """\
signals = [
  { asset = "press", signal = "speed", address = "holding:70000" },
  { asset = "press", signal = "load", address = "holding:2", typ = "int16" },
]
poll = 3
[[source]]
kind = "modbuss"
id = "x"
[store]
commit_s = 4
"""
    )
    told = faults(text)
    assert [t.rsplit("(", 1)[1] for t in told] == [
        "forewarn.toml:6)",
        "forewarn.toml:7)",
        "forewarn.toml:9)",
        "forewarn.toml:11)",
        "forewarn.toml:14)",
    ]
    assert told[0].startswith("source[0].signals[0].address: ")
    assert "70000" in told[0]
    assert "source[0].signals[1].typ: is not a known setting; did you mean 'type'?" in told[1]
    assert "source[0].poll: is not a known setting; did you mean 'poll_s'?" in told[2]
    assert "source[1].kind: must be one of" in told[3]
    assert "did you mean 'modbus'?" in told[3]
    assert told[4].startswith("store.commit_s: must be less than or equal to 0.25, was 4")


def test_a_secret_that_was_pasted_is_not_shown() -> None:
    told = faults(
        HEAD + f"signals = [{ONE}]\n[influx]\nurl = 'http://h:8086'\norg = 'o'\ntoken = 'hunter2'\n"
    )
    assert "must be a reference" in told[0]
    assert "hunter2" not in told[0]


def test_a_password_in_an_address_is_not_shown() -> None:
    signal = '{ asset = "a", signal = "s", address = "i=85" }'
    head = '[[source]]\nkind = "opcua"\nid = "p"\nurl = "opc.tcp://me:hunter2@h:4840"\n'
    (told,) = faults(head + f"signals = [{signal}]\n")
    assert "hunter2" not in told
    assert "without a user or a password, was 'opc.tcp://…@h:4840'" in told


def test_not_toml_names_the_line() -> None:
    assert faults('[gateway]\nid = "a\n')[0].endswith("(forewarn.toml:2)")


def test_an_empty_file_says_what_is_missing() -> None:
    assert "has no [[source]]" in faults("")[0]


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="schema --example"):
        load(tmp_path / "nothing.toml")


def test_ids_signals_and_assets_are_checked_across_tables() -> None:
    text = HEAD + f"signals = [{ONE}]\n" + HEAD + f"signals = [{ONE}]\n[[asset]]\nid = 'pres'\n"
    told = faults(text)
    assert any("source[1].id: must be unique" in t for t in told)
    assert any(
        "asset[0].id: no source has a signal of 'pres'; did you mean 'press'?" in t for t in told
    )
    other = text.replace('id = "plc"', 'id = "plc2"', 1)
    assert any("press/speed is read by source 'plc2' already" in t for t in faults(other))


def test_signals_may_come_from_a_csv_and_faults_name_its_line(tmp_path: Path) -> None:
    table = tmp_path / "signals.csv"
    table.write_text(
        "asset,signal,unit,address,scale\npress,speed,rpm,holding:1,\npress,heat,°C,holding:2,0.1\n"
    )
    text = HEAD + 'signals = "signals.csv"\n'
    config = parse(text, tmp_path / "forewarn.toml")
    assert [(s.signal, s.unit) for s in config.sources[0].signals] == [
        ("speed", "rpm"),
        ("heat", "°C"),
    ]
    table.write_text("asset,signal,unit,address\npress,speed,rpm,holding:99999\n")
    assert "(signals.csv:2)" in faults(text, tmp_path)[0]
    assert "cannot be read" in faults(HEAD + 'signals = "no.csv"\n', tmp_path)[0]


def test_a_profile_is_data_that_the_source_may_override() -> None:
    profile = {
        "kind": "modbus",
        "poll_s": 2.0,
        "signals": [
            {"signal": "speed", "address": "holding:1"},
            {"signal": "heat", "address": "x"},
        ],
    }
    source = {
        "profile": "p",
        "id": "a",
        "asset": "m",
        "poll_s": 5.0,
        "signals": [{"signal": "heat"}],
    }
    merged = protocols.merge_profile(source, profile)
    assert merged["poll_s"] == 5.0
    assert merged["signals"] == [
        {"asset": "m", "signal": "speed", "address": "holding:1"},
        {"signal": "heat"},
    ]
    told = faults('[[source]]\nprofile = "p"\n')
    assert any("must name a [profile.NAME]" in t for t in told)


def test_the_schema_accepts_the_example_and_refuses_a_wrong_one() -> None:
    import tomllib

    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    document = tomllib.loads(EXAMPLE)
    jsonschema.validate(document, schema)
    document["source"][0]["poll_s"] = "often"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema)


def test_check_has_the_exit_codes_of_the_contract(tmp_path: Path) -> None:
    right, wrong = tmp_path / "a.toml", tmp_path / "b.toml"
    right.write_text(HEAD + f"signals = [{ONE}]\n")
    wrong.write_text(HEAD + "signals = []\n")
    run = CliRunner().invoke
    assert run(group, ["check", str(right)]).exit_code == 0
    result = run(group, ["check", str(wrong), "--json"])
    assert result.exit_code == 2
    assert json.loads(result.stdout)["faults"][0]["line"] == 5


def test_one_missing_file_of_many_machines_is_one_fault_to_read(tmp_path: Path) -> None:
    assets = [f"press-{i}" for i in range(7)]
    rows = [ONE.replace('"press"', f'"{asset}"') for asset in assets]
    tables = [f'[[asset]]\nid = "{asset}"\nbundle = "pres.fwm"\n' for asset in assets]
    path = tmp_path / "forewarn.toml"
    path.write_text(HEAD + f"signals = [{', '.join(rows)}]\n" + "".join(tables))
    result = CliRunner().invoke(group, ["check", str(path)])
    assert result.exit_code == 2
    line, count = result.stderr.splitlines()
    assert line == (
        f"asset[0].bundle: pres.fwm: no such file in {tmp_path}, which holds no .fwm; `forewarn "
        "train` writes one (forewarn.toml:8); 6 more alike: asset[1].bundle (line 11), "
        "asset[2].bundle (line 14), asset[3].bundle (line 17), …"
    )
    assert count == f"{path}: 7 faults; nothing was started"
    (tmp_path / "press.fwm").touch()
    with pytest.raises(ConfigError, match=r"\(did you mean .*/press\.fwm\?\);.* 6 more alike"):
        load(path)
    told = json.loads(CliRunner().invoke(group, ["check", str(path), "--json"]).stdout)
    assert len(told["faults"]) == 7
    path.write_text(path.read_text().replace("bundle =", "bundles = [").replace('fwm"', 'fwm"]'))
    assert "asset[0].bundles[0]: pres.fwm: no such file" in faults(path.read_text(), tmp_path)[0]


def test_check_refuses_what_run_would_refuse(tmp_path: Path) -> None:
    pump = Path("models/artifacts/pump.fwm").absolute()
    path = tmp_path / "forewarn.toml"
    asset = f'[[asset]]\nid = "press"\nbundle = "{pump}"\n'
    path.write_text(HEAD + f"signals = [{ONE.replace('rpm', 'Hz')}]\n" + asset)
    result = CliRunner().invoke(group, ["check", str(path)])
    assert result.exit_code == 2
    told = "asset[0].bundle: pump.fwm: was trained on speed in 'rpm', press has it in 'Hz'"
    assert told in result.stderr
    findings = list(check_models(load(path)))
    assert findings[0].state == "bad"
    assert told in findings[0].text
    slashed = tmp_path / "slashed.fwm"
    bundles.make(slashed, signals=[{"name": "flow [m3/h]"}], features=("flow [m3/h]:mean",) * 12)
    path.write_text(path.read_text().replace(str(pump), str(slashed)))
    result = CliRunner().invoke(group, ["check", str(path)])
    assert "no signal may hold '/': name the column 'flow' and train anew" in result.stderr
    path.write_text(path.read_text().replace(str(slashed), str(path)))
    result = CliRunner().invoke(group, ["check", str(path)])
    assert "is not a bundle, or is damaged" in result.stderr
    wrong = '[[derive]]\nasset = "press"\nsignal = "power"\nexpression = "load * 2"\n'
    path.write_text(HEAD + f"signals = [{ONE}]\n" + wrong)
    result = CliRunner().invoke(group, ["check", str(path)])
    assert result.exit_code == 2
    assert "derive[0].expression: " in result.stderr


def test_a_file_that_is_not_there_is_told_with_what_is(tmp_path: Path) -> None:
    (tmp_path / "forewarn.toml").write_text(HEAD + f"signals = [{ONE}]\n")
    result = CliRunner().invoke(group, ["check", str(tmp_path / "forwarn.toml")])
    assert f"no such file (did you mean {tmp_path / 'forewarn.toml'}?)" in result.stderr
    assert "1 fault;" in result.stderr
    result = CliRunner().invoke(group, ["check", str(tmp_path / "forewarn.toml")])
    assert "valid. 1 source, 1 signal, 1 asset." in result.stdout.replace("\n", " ")


def test_check_connect_says_no_when_nobody_answers(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text(HEAD.replace("192.0.2.10:502", "127.0.0.1:1") + f"signals = [{ONE}]\n")
    result = CliRunner().invoke(group, ["check", str(path), "--connect", "--json"])
    assert result.exit_code == 1
    read = json.loads(result.stdout)["read"][0]
    assert read["error"]
    assert list(read["bad"]) == ["press/speed"]


def test_lines_are_found_in_every_shape_of_toml() -> None:
    text = '''\
# comment with [brackets] = and "quotes"
a = 1
b.c = "x # y"
d = """
two
lines"""
[t."odd key"]
e = [ 1,
  { f = 2, g = [3,
    4] }, # ]
]
[[u]]
h = 'it''s'
[[u]]
h = 2
[u.sub]
k = 1979-05-27
'''.replace("it''s", "its")
    lines = locate(text)
    assert lines["a",] == 2
    assert lines["b", "c"] == 3
    assert lines["d",] == 4
    assert lines["t", "odd key", "e"] == 8
    assert lines["t", "odd key", "e", 1, "f"] == 9
    assert lines["t", "odd key", "e", 1, "g", 1] == 10
    assert (lines["u", 0, "h"], lines["u", 1, "h"]) == (13, 15)
    assert lines["u", 1, "sub", "k"] == 17
