"""What an order knows of a person: who it is and where to reach them."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from orders.commands import Name

# ISO 3166-1, all that is assigned, and XK, by which carriers know Kosovo.
COUNTRIES = frozenset(
    """
    AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS
    BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE
    EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM
    HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC
    LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA
    NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW
    SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO
    TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW
    """.split()
)


def _known_country(code: str) -> str:
    if code not in COUNTRIES:
        raise ValueError("must be an ISO 3166 code of two capitals, such as US")
    return code


PostalCode = Annotated[str, Field(pattern=r"^[A-Za-z0-9 -]{1,16}$")]
Country = Annotated[
    str, AfterValidator(_known_country), Field(description="ISO 3166, two capitals")
]
Email = Annotated[str, Field(pattern=r"^[^@\s\x00-\x1f\x7f-\x9f]+@[^@\s\x00-\x1f\x7f-\x9f]+$")]
Phone = Annotated[
    str,
    Field(pattern=r"^[0-9+(][0-9 ()./x-]{2,31}$", description="best as +, country code, number"),
]


class Address(BaseModel):
    """Where goods or a bill go, and to whom. All of it is personal data, and kept sealed."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        hide_input_in_errors=True,  # An error's text ends up in a log.
        json_schema_extra={
            "examples": [
                {
                    "name": "Ada Lovelace",
                    "line1": "12 St James's Square",
                    "postal_code": "SW1Y 4JH",
                    "city": "London",
                    "country": "GB",
                    "email": "ada@example.org",
                    "phone": "+44 20 7946 0000",
                }
            ]
        },
    )

    name: Annotated[Name, Field(description="of the person who receives it")]
    line1: Annotated[Name, Field(description="street and number, or what stands for them")]
    line2: Annotated[Name | None, Field(description="flat, floor, building")] = None
    postal_code: PostalCode
    city: Name
    region: Annotated[Name | None, Field(description="state, province, prefecture")] = None
    country: Country
    email: Annotated[Email | None, Field(max_length=254)] = None
    phone: Phone | None = None
    company: Name | None = None
