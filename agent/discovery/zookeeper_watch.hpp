// SPDX-License-Identifier: Apache-2.0
// Which nodes of ZooKeeper are read, and what is known of them. Pure: the caller asks the server, and tells of answers
// and events in the order in which they came.
//
// Every read sets its watch in the same call, so nothing changes unseen. A folder that isn't there is watched for its
// coming (`exists` watches a node that does not exist, whatever of its parents does), so folders that ZooKeeper deletes
// when they are empty (container nodes) are found again. A service takes part in updates with what was known when the
// last of its own reads came back.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "discovery/zookeeper_keys.hpp"
#include "discovery/zookeeper_model.hpp"
#include "discovery/zookeeper_wire.hpp"
#include "model/service.hpp"

namespace mesh::discovery {

class ZookeeperWatch {
 public:
  ZookeeperWatch(const ZookeeperSettings& settings, const ServicePolicy& policy);

  /// A new session, without watches: all is read again. Nothing is published until all of it was; ports of frontends
  /// stay.
  void restart();

  struct Ask {
    ZookeeperRead what = ZookeeperRead::kChildren;
    std::string path;  ///< With the chroot.
  };
  /// The reads that are due, `room` at most; each has to be answered.
  std::vector<Ask> take_asks(std::size_t room);
  /// Error: the run can't go on.
  base::Result<void> answered(const Ask& ask, const ZookeeperAnswer& answer);
  void happened(const ZookeeperNews& news);

  /// All services, if all is known and something changed since.
  std::optional<std::vector<model::ServicePtr>> take_update();
  /// All is known and nothing is to be read.
  [[nodiscard]] bool is_settled() const { return pending_ == 0; }
  /// What is wrong with nodes, since the last call.
  std::vector<base::Error> take_reports();

 private:
  /// A node's data, or else its children, or its coming.
  struct Key {
    std::string path;  ///< Without the chroot; the root is "".
    bool data = false;
    auto operator<=>(const Key&) const = default;
  };
  enum class State : std::uint8_t { kNew, kDue, kAsked, kKnown };
  struct Node {
    ZookeeperRead what = ZookeeperRead::kChildren;
    State state = State::kNew;
    bool again = false;  ///< It changed while it was asked for.
  };
  struct Member {
    std::optional<ZookeeperInstance> instance;
    bool gone = false;  ///< It was listed, and not there when it was read.
  };
  struct Service {
    const ZookeeperRule* rule = nullptr;
    std::string name;
    std::map<std::string, Member> members{};
    std::size_t pending = 0;  ///< Of its nodes.
    bool known = false;
    std::vector<ZookeeperInstance> instances{};  ///< What `mapped` was made of.
    std::vector<model::ServicePtr> mapped{};
    std::vector<std::string> notes{};
    InstancesKept kept{};
  };

  void ask(const Key& key, ZookeeperRead what);
  void settle(const Key& key, Node& node);
  void drop(const Key& key);
  static std::string folder_of(const Key& key);
  Service* owner(const Key& key);  ///< Null: it is a folder with a pattern only.
  void add_service(const ZookeeperRule& rule, const std::string& name);
  void take_base(const std::string& base, const std::vector<std::string>& names);
  void take_folder(const std::string& folder, Service& service, const std::vector<std::string>& names);
  void take_member(const Key& key, const ZookeeperAnswer& answer);
  void finish(const std::string& folder, Service& service);
  void report(std::string what, std::string remedy);

  const ZookeeperSettings settings_;
  const std::string chroot_;
  ZookeeperMapper mapper_;
  std::map<std::string, bool> bases_;          // folders with a pattern; whether their children were known once
  std::map<Key, Node> nodes_;                  // what is read and watched
  std::map<std::string, Service> services_;    // by folder
  std::map<std::string, InstancesKept> kept_;  // of the last session, until a service is found again
  std::deque<Key> due_;
  std::size_t pending_ = 0;  // nodes that are not known
  std::size_t unknown_ = 0;  // services and folders with a pattern that were never known
  bool complete_ = false;    // all were, once in this session
  bool changed_ = false;
  std::string twice_;  // names that are left out
  std::vector<base::Error> reports_;
};

}  // namespace mesh::discovery
