// SPDX-License-Identifier: Apache-2.0
#include "xds/session.hpp"

#include <algorithm>
#include <utility>

namespace mesh::xds {
namespace {

/// What is referred to comes before what refers to it, except that a cluster comes before its endpoints.
constexpr std::array kOrder = {Type::kCluster, Type::kEndpoints, Type::kRoute, Type::kListener};

bool same(const ServedPtr& a, const ServedPtr& b) {
  return a == b || (a && b && a->assignment.localities == b->assignment.localities);
}

}  // namespace

Session::Taken Session::take(const Request& request) {
  if (request.node && node_.id.empty()) node_ = *request.node;
  if (request.names.size() > kMaxNames) return Taken::kTooMuch;
  Topic& topic = topics_[static_cast<std::size_t>(request.type)];
  if (topic.asked && request.nonce != topic.nonce) return Taken::kAsked;
  Taken taken = Taken::kAsked;
  if (std::exchange(topic.awaiting, false)) {
    taken = request.error ? Taken::kRefused : Taken::kAccepted;
    if (request.error) refusal_ = Refusal{request.type, topic.version, *request.error};
  }
  std::set<std::string, std::less<>> names(request.names.begin(), request.names.end());
  const bool first = !std::exchange(topic.asked, true);
  if (first || names != topic.names) {
    topic.everything = first && names.empty();
    topic.answer_at_once = true;
    topic.names = std::move(names);
    if (request.type == Type::kEndpoints) {
      std::erase_if(topic.said, [&](const auto& one) { return !topic.names.contains(one.first); });
    }
  }
  return taken;
}

/// Clusters or listeners that there are.
std::vector<Reply::Resource> Session::whole(const Topic& topic, Type type, const World& world) {
  std::vector<Reply::Resource> resources;
  if (topic.everything && type == Type::kCluster) {
    for (const auto& [name, served] : world.services) resources.push_back({name, served});
  }
  for (const std::string& name : topic.names) {
    if (auto served = world.find(name)) resources.push_back({name, std::move(served)});
  }
  return resources;
}

/// Endpoints that the client does not know yet.
std::vector<Reply::Resource> Session::changes(Topic& topic, const World& world) {
  std::vector<Reply::Resource> resources;
  for (const std::string& name : topic.names) {
    auto served = world.find(name);
    const auto said = topic.said.find(name);
    if (said == topic.said.end()) {
      if (served) resources.push_back({name, std::move(served)});
    } else if (!same(said->second, served)) {
      resources.push_back({name, std::move(served)});
    } else {
      said->second = std::move(served);
    }
  }
  return resources;
}

std::optional<Reply> Session::next(const World& world) {
  for (const Type type : kOrder) {
    Topic& topic = topics_[static_cast<std::size_t>(type)];
    if (!topic.asked || topic.awaiting || type == Type::kRoute) continue;
    std::vector<Reply::Resource> resources;
    if (type == Type::kEndpoints) {
      resources = changes(topic, world);
      if (resources.empty()) continue;
      for (const Reply::Resource& one : resources) topic.said[one.name] = one.served;
    } else {
      resources = whole(topic, type, world);
      const bool known = std::ranges::equal(resources, topic.said, [](const auto& one, const auto& said) {
        return one.name == said.first && one.served->name == said.second->name;
      });
      if (known && !topic.answer_at_once) continue;
      topic.said.clear();
      for (const Reply::Resource& one : resources) topic.said.emplace(one.name, one.served);
    }
    topic.answer_at_once = false;
    topic.awaiting = true;
    topic.nonce = std::to_string(++nonces_);
    topic.version = std::to_string(world.version);
    return Reply{.type = type, .version = topic.version, .nonce = topic.nonce, .resources = std::move(resources)};
  }
  return std::nullopt;
}

std::optional<Session::Refusal> Session::take_refusal() { return std::exchange(refusal_, std::nullopt); }

}  // namespace mesh::xds
