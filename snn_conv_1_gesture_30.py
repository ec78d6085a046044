"""snn_conv_1_gesture with 30 bins. Settings: configs/snn_conv_1_gesture_30.yaml"""

from snn.experiments.snn_conv_1_gesture import network
from snn.run.cli import main

if __name__ == "__main__":
    main("snn_conv_1_gesture_30", network)
