// SPDX-License-Identifier: Apache-2.0
// The BPF programs as this binary carries them: one linked ELF object. The loader works on the object, not on a typed
// skeleton, so that one build can be tested with the image of another layout.
#pragma once

#include <cstddef>
#include <span>

namespace mesh::datapath {

using ProgramImage = std::span<const std::byte>;

/// The image this binary was built with.
ProgramImage embedded_image();

}  // namespace mesh::datapath
