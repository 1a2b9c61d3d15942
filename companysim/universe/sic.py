"""The tree of the Standard Industrial Classification of 1987: division, major group, industry group, industry.

A code's first two digits are its major group, its first three its industry group. Divisions are letters that stand for
ranges of major groups. EDGAR uses a few codes that the classification does not have (6770 for blank checks, 8888 for
foreign governments, 9995 for shells); they have their place in the tree all the same.
"""

from __future__ import annotations

from typing import NamedTuple

DIVISIONS = {
    "A": ("Agriculture, forestry and fishing", 1, 9),
    "B": ("Mining", 10, 14),
    "C": ("Construction", 15, 17),
    "D": ("Manufacturing", 20, 39),
    "E": ("Transportation, communications, electric, gas and sanitary services", 40, 49),
    "F": ("Wholesale trade", 50, 51),
    "G": ("Retail trade", 52, 59),
    "H": ("Finance, insurance and real estate", 60, 67),
    "I": ("Services", 70, 89),
    "J": ("Public administration and nonclassifiable", 90, 99),
}
"""Letter of each division: its name, its first and its last major group."""
MAJOR_GROUPS = {
    "01": "Agricultural production, crops",
    "02": "Agricultural production, livestock",
    "07": "Agricultural services",
    "08": "Forestry",
    "09": "Fishing, hunting and trapping",
    "10": "Metal mining",
    "12": "Coal mining",
    "13": "Oil and gas extraction",
    "14": "Nonmetallic minerals, except fuels",
    "15": "General building contractors",
    "16": "Heavy construction, except building",
    "17": "Special trade contractors",
    "20": "Food and kindred products",
    "21": "Tobacco products",
    "22": "Textile mill products",
    "23": "Apparel and other textile products",
    "24": "Lumber and wood products",
    "25": "Furniture and fixtures",
    "26": "Paper and allied products",
    "27": "Printing and publishing",
    "28": "Chemicals and allied products",
    "29": "Petroleum and coal products",
    "30": "Rubber and miscellaneous plastics products",
    "31": "Leather and leather products",
    "32": "Stone, clay, glass and concrete products",
    "33": "Primary metal industries",
    "34": "Fabricated metal products",
    "35": "Industrial machinery and computer equipment",
    "36": "Electronic and other electric equipment",
    "37": "Transportation equipment",
    "38": "Instruments and related products",
    "39": "Miscellaneous manufacturing industries",
    "40": "Railroad transportation",
    "41": "Local and interurban passenger transit",
    "42": "Trucking and warehousing",
    "43": "United States postal service",
    "44": "Water transportation",
    "45": "Transportation by air",
    "46": "Pipelines, except natural gas",
    "47": "Transportation services",
    "48": "Communications",
    "49": "Electric, gas and sanitary services",
    "50": "Wholesale trade, durable goods",
    "51": "Wholesale trade, nondurable goods",
    "52": "Building materials and garden supplies",
    "53": "General merchandise stores",
    "54": "Food stores",
    "55": "Automotive dealers and service stations",
    "56": "Apparel and accessory stores",
    "57": "Furniture and home furnishings stores",
    "58": "Eating and drinking places",
    "59": "Miscellaneous retail",
    "60": "Depository institutions",
    "61": "Nondepository credit institutions",
    "62": "Security and commodity brokers",
    "63": "Insurance carriers",
    "64": "Insurance agents, brokers and service",
    "65": "Real estate",
    "67": "Holding and other investment offices",
    "70": "Hotels and other lodging places",
    "72": "Personal services",
    "73": "Business services",
    "75": "Automotive repair, services and parking",
    "76": "Miscellaneous repair services",
    "78": "Motion pictures",
    "79": "Amusement and recreation services",
    "80": "Health services",
    "81": "Legal services",
    "82": "Educational services",
    "83": "Social services",
    "84": "Museums and botanical gardens",
    "86": "Membership organizations",
    "87": "Engineering and management services",
    "88": "Private households",
    "89": "Miscellaneous services",
    "91": "Executive, legislative and general government",
    "92": "Justice, public order and safety",
    "93": "Finance, taxation and monetary policy",
    "94": "Administration of human resources",
    "95": "Environmental quality and housing",
    "96": "Administration of economic programs",
    "97": "National security and international affairs",
    "99": "Nonclassifiable establishments",
}


class Place(NamedTuple):
    """Where a code stands in the tree; empty where the tree has no such branch.

    Attributes
    ----------
    division : str
        Letter, a key of `DIVISIONS`.
    major_group : str
        Two digits, a key of `MAJOR_GROUPS`.
    industry_group : str
        Three digits.
    industry : str
        The code itself.
    """

    division: str
    major_group: str
    industry_group: str
    industry: str


def place(sic: str) -> Place:
    """Return the place of a four-digit code in the tree.

    Parameters
    ----------
    sic : str
        Four digits, leading zero included; or empty, which has no place.
    """
    if not sic:
        return Place("", "", "", "")
    major = sic[:2]
    division = next((letter for letter, (_, first, last) in DIVISIONS.items() if first <= int(major) <= last), "")
    return Place(division, major if major in MAJOR_GROUPS else "", sic[:3], sic)
