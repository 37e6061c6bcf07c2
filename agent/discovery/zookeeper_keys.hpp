// SPDX-License-Identifier: Apache-2.0
// The keys of `sources[].zookeeper`.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "discovery/rule_keys.hpp"
#include "model/service.hpp"

namespace mesh::discovery {

/// How services are laid out in nodes.
enum class ZookeeperLayout : std::uint8_t {
  kCurator,    ///< PATH/SERVICE/ID, JSON of Curator's service discovery, which Spring Cloud uses.
  kDubbo,      ///< PATH/INTERFACE/providers/URL; the name of the node says all.
  kServerSet,  ///< PATH/SERVICE/MEMBER, JSON of Twitter's (Finagle's) server sets.
  kNerve,      ///< PATH/SERVICE/MEMBER, JSON of Airbnb's nerve.
};

/// Which services become services of the mesh, and as what. The first rule that matches a service counts.
struct ZookeeperRule {
  static constexpr std::string_view kOne = "service", kMany = "services";

  std::string match;  ///< A name, a pattern with * and ?, or "all".
  ZookeeperLayout layout = ZookeeperLayout::kCurator;
  std::string path;                 ///< Of the folder that holds the services; empty: that of the layout.
  std::string below;                ///< "services" for PATH/SERVICE/services/MEMBER.
  std::string endpoint;             ///< Of server sets: the additional endpoint of this name.
  std::vector<std::string> labels;  ///< "KEY=VALUE": only instances that have all of them.
  std::string name;                 ///< In the mesh; empty: as in ZooKeeper, in lower case.
  std::string address;              ///< IP address of the frontend; empty: by name, from the agent's range.
  std::uint16_t port = 0;           ///< Of the frontend; 0: that of the instances.
  model::Protocol protocol = model::Protocol::kTcp;

  [[nodiscard]] bool is_exact() const { return is_exact_match(match); }  ///< `match` is a name.
  /// The folder that holds the services: "/services".
  [[nodiscard]] std::string base() const;
  /// The folder that holds the instances of a service: "/dubbo/com.shop.Orders/providers".
  [[nodiscard]] std::string folder(std::string_view service) const;
  bool operator==(const ZookeeperRule&) const = default;
};

struct ZookeeperSettings {
  std::vector<std::string> servers{"127.0.0.1:2181"};  ///< HOST or HOST:PORT
  std::string chroot;                                  ///< "/prod", which is put before every path; empty: none.
  std::string auth_file;                               ///< Of user:password; empty: nobody in particular.
  std::chrono::milliseconds session_timeout{10'000};   ///< Asked for; the server has limits of its own.
  unsigned jute_maxbuffer = 4u << 20;                  ///< Largest answer, in bytes.
  unsigned max_reads = 100;                            ///< In flight.
  std::vector<ZookeeperRule> services;
};

extern const Table kZookeeperTable;      // ZookeeperSettings
extern const Table kZookeeperRuleTable;  // ZookeeperRule

/// Rules that no service can reach, because earlier ones take all.
void finish_zookeeper_settings(Decoder& decoder, const Value& value, ZookeeperSettings& settings);

/// "zk1", "zk1:2181", "10.0.0.1:2181", "[fd00::1]:2181" to host and port.
base::Result<std::pair<std::string, std::string>> parse_zookeeper_server(const std::string& text);

}  // namespace mesh::discovery
