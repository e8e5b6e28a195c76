"""JUnit XML: a suite a model, a case a requirement. An inconclusive verdict is an error where it does not pass."""

from __future__ import annotations

import io

from junitparser import Attr, Error, Failure, JUnitXml, Properties, Property, TestCase, TestSuite

from robcert.policy.record import GateRecord, RequirementRecord
from robcert.reports import renderer
from robcert.reports.gate.words import asked, figure, grade
from robcert.reports.text import plain


class _Case(TestCase):
    """A case that knows its file and its line, as many readers of the format do."""

    file = Attr()
    line = Attr()


@renderer("junit", GateRecord)
def render(record: GateRecord) -> str:
    """The XML text."""
    xml = JUnitXml("robcert gate")
    for model in record.models:
        suite = TestSuite(plain(model.name))
        suite.add_property("sha256", model.sha256)
        for one in record.requirements:
            if one.model == model.name:
                suite.add_testcase(_case(record, one))
        xml.add_testsuite(suite)
    xml.update_statistics()
    out = io.BytesIO()
    xml.write(out, pretty=True)
    return out.getvalue().decode()


def _case(record: GateRecord, one: RequirementRecord) -> TestCase:
    seconds = record.runs[one.run].seconds if one.run is not None else 0.0
    case = _Case(plain(one.name), classname=plain(f"robcert.{one.model}"), time=seconds)
    case.file, case.line = plain(record.policy.path), str(one.line)  # pyright: ignore[reportAttributeAccessIssue]
    properties = Properties()
    for name, value in (("verdict", grade(one)), ("asked", asked(one)), ("found", figure(one))):
        properties.add_property(Property(name, value))
    case.append(properties)
    text = plain(one.reason, 2000)
    if one.verdict == "failed":
        case.result = [Failure(text, "failed")]
    elif one.verdict == "inconclusive" and not record.passed:
        case.result = [Error(text, "inconclusive")]
    else:
        case.system_out = f"{grade(one)}: {text}"
    return case
