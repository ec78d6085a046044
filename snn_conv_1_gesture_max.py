"""snn_conv_1_gesture with 30 bins, and each bin's event counts, divided by their maximum, as input.

Settings: configs/snn_conv_1_gesture_max.yaml
"""

from snn.experiments.snn_conv_1_gesture import network
from snn.run.cli import main

if __name__ == "__main__":
    main("snn_conv_1_gesture_max", network)
