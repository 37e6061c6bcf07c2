// SPDX-License-Identifier: Apache-2.0
// What the agent's xDS server says to one client: the rules of a stream of aggregated discovery, state of the world.
// Pure.
//
// Each type of resources is a topic. A request with the nonce of the last answer accepts or refuses it, any other nonce
// is an old one and is ignored. While an answer is not accepted or refused nothing more is said about its topic: a slow
// client gets the newest state later, and never a queue of old ones. Clusters and listeners are said all together
// (absence deletes), of endpoints only what changed. Nothing is repeated to a client that refused it.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "xds/message.hpp"
#include "xds/world.hpp"

namespace mesh::xds {

inline constexpr std::size_t kMaxNames = 100'000;  ///< That a client asks for, of one type.

struct Reply {
  struct Resource {
    std::string name;  ///< As asked for.
    ServedPtr served;  ///< Null: endpoints that are gone.
    bool operator==(const Resource&) const = default;
  };
  Type type = Type::kCluster;
  std::string version;
  std::string nonce;
  std::vector<Resource> resources;
};

class Session {
 public:
  enum class Taken : std::uint8_t {
    kAccepted,  ///< The last answer.
    kRefused,   ///< The last answer: see take_refusal().
    kAsked,     ///< It is about no answer, or about an old one.
    kTooMuch,   ///< Too many names: the stream has to end.
  };
  Taken take(const Request& request);
  /// What to say next; nothing: all is said, or waits for the client.
  std::optional<Reply> next(const World& world);

  struct Refusal {
    Type type = Type::kCluster;
    std::string version;  ///< Of what was refused.
    std::string why;
  };
  /// The last one, once.
  std::optional<Refusal> take_refusal();

  [[nodiscard]] const Node& node() const { return node_; }

 private:
  struct Topic {
    bool asked = false;
    bool everything = false;  ///< Without names.
    std::set<std::string, std::less<>> names;
    std::string nonce;      ///< Of the last answer.
    std::string version;    ///< Of the last answer.
    bool awaiting = false;  ///< What the client thinks of it.
    bool answer_at_once = false;
    std::map<std::string, ServedPtr, std::less<>> said;  ///< By name.
  };
  static std::vector<Reply::Resource> whole(const Topic& topic, Type type, const World& world);
  static std::vector<Reply::Resource> changes(Topic& topic, const World& world);

  std::array<Topic, kTypes> topics_;
  Node node_;
  std::uint64_t nonces_ = 0;
  std::optional<Refusal> refusal_;
};

}  // namespace mesh::xds
