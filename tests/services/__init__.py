"""Real servers for the tests of stores, each private: on free ports of 127.0.0.1, its data in a temporary directory."""
