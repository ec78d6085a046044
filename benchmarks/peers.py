"""The same network sizes in other libraries, for `training_step.py --peers`; measures those that are installed.

SpikingJelly (multi-step LIF, without and with its SynapseFilter), snnTorch (Synaptic) and Norse (LIF). Their neurons
and synapses differ from this project's; the comparison is of the time of a step with the same layers and sizes.
"""

import torch
from torch import nn

DROPOUT = 0.3
MODES = "", ", bf16", ", compiled"


def make_steps(name, case, device, train):
    """Return steps by the library's name; none for networks other than the MLP and the MNIST CNN."""
    if name not in ("MLP", "MNIST CNN"):
        return {}
    makers = {
        "SpikingJelly LIF": lambda: spikingjelly(name, synapses=False),
        "SpikingJelly LIF, SynapseFilter": lambda: spikingjelly(name, synapses=True),
        "snnTorch Synaptic": lambda: snntorch(name),
        "Norse LIF": lambda: norse(name),
    }
    steps = {}
    for library, make in makers.items():
        for mode in MODES if train else MODES[:1]:
            if mode == ", compiled" and name != "MLP":
                continue  # 25 unrolled steps of the CNN: one failed, one took over eight minutes
            way = library + mode
            try:
                step = make_step(case, make, device, train, mode)
                step()
                steps[way] = step
            except Exception as error:  # not installed, or what torch.compile can't take
                print(f"{way} is left out: {' '.join(str(error).split())[:200]}", flush=True)
    return steps


def make_step(case, make, device, train, mode):
    torch.manual_seed(0)
    net, run = make()
    if mode == ", compiled":
        run = torch.compile(run)

    def forward(x):
        with torch.autocast(device, torch.bfloat16, enabled=mode == ", bf16"):
            return run(x).float()

    net.to(device).train(train)
    x, loss = case.input().to(device), case.loss(device)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4, fused=True)

    def step():
        if train:
            optimizer.zero_grad()
            loss(forward(x)).backward()
            optimizer.step()
        else:
            with torch.no_grad():
                loss(forward(x))

    return step


def layers(name, neuron, synapse=lambda: [], wrap=lambda layer: layer):
    """Return the network's layers: a synapse before every product and pooling, a neuron after every product."""
    if name == "MLP":
        sizes, before = (784, 500, 500, 10), []
    else:
        sizes, before = (64 * 7 * 7, 512, 10), []
        for inputs, outputs, pool in ((1, 32, False), (32, 32, False), (32, 64, True), (64, 64, True)):
            before += [*synapse(), wrap(nn.Conv2d(inputs, outputs, 3, padding=1)), neuron()]
            before += [*synapse(), wrap(nn.MaxPool2d(2))] if pool else []
        before.append(wrap(nn.Flatten()))
    for inputs, outputs in zip(sizes, sizes[1:]):
        before += [*synapse(), wrap(nn.Linear(inputs, outputs)), neuron()]
        before += [wrap(nn.Dropout(DROPOUT))] if outputs != 10 else []
    return before


def spikingjelly(name, synapses):
    from spikingjelly.activation_based import functional, layer, neuron, surrogate

    def wrap(module):
        return layer.SeqToANNContainer(module)

    net = nn.Sequential(
        *layers(
            name,
            lambda: neuron.LIFNode(tau=2.0, surrogate_function=surrogate.ATan(), step_mode="m"),
            lambda: [layer.SynapseFilter(tau=4.0, learnable=True, step_mode="m")] if synapses else [],
            wrap,
        )
    )

    def forward(x):
        functional.reset_net(net)
        return net(x)

    return net, forward


def snntorch(name):
    from snntorch import Synaptic

    net = nn.Sequential(*layers(name, lambda: Synaptic(alpha=0.8, beta=0.9)))

    def forward(x):
        states, outputs = [None] * len(net), []
        for x_t in x.unbind(0):
            for k, layer in enumerate(net):
                if isinstance(layer, Synaptic):
                    states[k] = states[k] or layer.reset_mem()
                    x_t, *states[k] = layer(x_t, *states[k])
                else:
                    x_t = layer(x_t)
            outputs.append(x_t)
        return torch.stack(outputs)

    return net, forward


def norse(name):
    from norse.torch import LIFCell, SequentialState

    net = SequentialState(*layers(name, LIFCell))

    def forward(x):
        state, outputs = None, []
        for x_t in x.unbind(0):
            y, state = net(x_t, state)
            outputs.append(y)
        return torch.stack(outputs)

    return net, forward
