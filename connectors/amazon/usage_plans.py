"""Amazon's default usage plans: every budget starts with them, until a rate header corrects the rate.

Source: the usage-plan tables of Amazon's Orders API model 2026-01-01, Sellers API model v1 and Reports API
model 2021-06-30.
"""

from __future__ import annotations

from types import MappingProxyType

from connectors.base import Plans, UsagePlan

PLANS: Plans = MappingProxyType(
    {
        "searchOrders": UsagePlan(rate=0.0056, burst=20),
        "getOrder": UsagePlan(rate=0.5, burst=30),
        "getMarketplaceParticipations": UsagePlan(rate=0.016, burst=15),
        "createReport": UsagePlan(rate=0.0167, burst=15),
        "getReport": UsagePlan(rate=2.0, burst=15),
        "getReportDocument": UsagePlan(rate=0.0167, burst=15),
    }
)
