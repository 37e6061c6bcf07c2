// SPDX-License-Identifier: Apache-2.0
// The client of ZooKeeper: connections around ZookeeperWatch, which decides.
//
// It only reads, so a session is worth no more than its connection: when that is lost, the next one begins a new
// session and reads everything again, and what was published stays until it has. So an expired session and one that was
// moved are nothing special.
#pragma once

#include <cstdint>

#include "base/random.hpp"
#include "discovery/registry.hpp"
#include "discovery/registry_type.hpp"
#include "discovery/zookeeper_keys.hpp"
#include "discovery/zookeeper_watch.hpp"

namespace mesh::discovery {

class ZookeeperRegistry final : public Registry {
 public:
  ZookeeperRegistry(const ZookeeperSettings& settings, const RegistryContext& context);

  base::Result<void> run(Feed& feed) override;

 private:
  const ZookeeperSettings settings_;
  ZookeeperWatch watch_;
  base::Random random_;
  /// The newest change that was seen: a server that has not seen it refuses us, so nothing older comes from one that
  /// lags. If all refuse, the ensemble itself is an older one, and the next run takes it as it is.
  std::int64_t last_zxid_ = 0;
};

extern const RegistryType kZookeeperRegistry;

}  // namespace mesh::discovery
