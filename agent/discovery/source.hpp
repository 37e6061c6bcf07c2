// SPDX-License-Identifier: Apache-2.0
// The contract of every source of services.
//
// A source owns one thread, or is driven by one, and publishes whole updates into its mailbox: newest wins. A source
// that can't be reached publishes nothing that removes endpoints: it publishes its last good services with a status
// that says kStale (invariant I7). stop() returns within two seconds, whatever the source is waiting for.
#pragma once

#include <functional>
#include <memory>

#include "model/snapshot.hpp"

namespace mesh::discovery {

using model::UpdatePtr;

class Source {
 public:
  /// Called from the source's own thread, each time with its newest whole update.
  using Publish = std::function<void(UpdatePtr)>;

  virtual ~Source() = default;
  virtual void start(Publish publish) = 0;
  virtual void stop() = 0;
};

}  // namespace mesh::discovery
