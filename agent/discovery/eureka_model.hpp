// SPDX-License-Identifier: Apache-2.0
// Answers of Eureka, and what they mean. Pure.
//
// JSON as servers of all ages write it: "$" of a port is a number or a string, "@enabled" a boolean or a string, one
// application or instance an object instead of a list, and overriddenStatus has two spellings.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "discovery/eureka_keys.hpp"
#include "discovery/instances.hpp"

namespace mesh::discovery {

inline constexpr std::size_t kMaxEurekaBody = 256u << 20;  ///< Unpacked; an instance has one to two KiB.

/// In the order of their names, which is that of the reconcile hash.
enum class EurekaStatus : std::uint8_t { kDown, kOutOfService, kStarting, kUnknown, kUp };
enum class EurekaAction : std::uint8_t { kNone, kAdded, kModified, kDeleted };

struct EurekaPort {
  std::int64_t number = 0;
  bool enabled = false;
  bool operator==(const EurekaPort&) const = default;
};

struct EurekaInstance {
  std::string app;  ///< In upper case.
  std::string id;   ///< Unique in its application.
  EurekaStatus status = EurekaStatus::kUnknown;
  EurekaStatus overridden = EurekaStatus::kUnknown;  ///< What an operator ordered; kUnknown: nothing.
  std::string host;
  std::string address;
  EurekaPort port;
  EurekaPort secure_port;
  std::string zone;
  std::vector<std::pair<std::string, std::string>> meta;  ///< "meshd-..." only.
  std::uint64_t changed = 0;                              ///< lastDirtyTimestamp
  EurekaAction action = EurekaAction::kNone;              ///< Of a delta.
  bool operator==(const EurekaInstance&) const = default;
};

struct EurekaAnswer {
  std::string hash;  ///< apps__hashcode: what all instances of the registry hash to.
  std::vector<EurekaInstance> instances;
};

/// {base}/apps and {base}/apps/delta. Error: the body is not what Eureka says.
base::Result<EurekaAnswer> parse_eureka(std::string_view body);

/// Numbers of instances by status; its hash is as servers write it: "DOWN_1_UP_3_".
using EurekaCounts = std::array<std::size_t, 5>;
std::string eureka_hash(const EurekaCounts& counts);

/// "orders-v1" -> "ORDERS-V1"
std::string upper_case(std::string_view text);

/// The first rule that wants this application; null: none.
const EurekaRule* find_eureka_rule(const std::vector<EurekaRule>& rules, std::string_view app);

/// UP gets traffic; OUT_OF_SERVICE, also where it is only ordered, drains; DOWN, STARTING and UNKNOWN have weight 0.
Instance to_instance(const EurekaInstance& instance, const EurekaRule& rule);

}  // namespace mesh::discovery
