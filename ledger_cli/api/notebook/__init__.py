"""Results that a notebook shows as what they are: tables and maps. A module each, as each verb needs its own."""
