"""What the sources share: names and formats, byte streams, and reading one chunk ahead."""
