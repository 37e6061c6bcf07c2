// SPDX-License-Identifier: Apache-2.0
#include "discovery/zookeeper_watch.hpp"

#include <algorithm>
#include <set>
#include <tuple>
#include <utility>

#include "discovery/registry.hpp"

namespace mesh::discovery {
namespace {

using base::ErrorKind;

constexpr std::size_t kMaxReports = 16;  // between two looks at them

bool matches(const ZookeeperRule& rule, std::string_view name) { return rule_matches(rule.match, name); }

}  // namespace

ZookeeperWatch::ZookeeperWatch(const ZookeeperSettings& settings, const ServicePolicy& policy)
    : settings_(settings), chroot_(settings.chroot == "/" ? "" : settings.chroot), mapper_(policy) {}

void ZookeeperWatch::restart() {
  for (auto& [folder, service] : services_) kept_[folder] = service.kept;
  bases_.clear();
  nodes_.clear();
  services_.clear();
  due_.clear();
  pending_ = 0;
  unknown_ = 0;
  complete_ = false;
  changed_ = true;
  for (const ZookeeperRule& rule : settings_.services) {
    if (rule.is_exact()) {
      add_service(rule, rule.match);
    } else if (bases_.emplace(rule.base(), false).second) {
      ++unknown_;
      ask({rule.base()}, ZookeeperRead::kChildren);
    }
  }
}

void ZookeeperWatch::ask(const Key& key, ZookeeperRead what) {
  Node& node = nodes_[key];
  if (node.state == State::kDue) return;
  if (node.state == State::kAsked) {
    node.again = true;
    return;
  }
  ++pending_;
  if (Service* const service = owner(key)) ++service->pending;
  node.what = what;
  node.state = State::kDue;
  due_.push_back(key);
}

void ZookeeperWatch::settle(const Key& key, Node& node) {
  node.state = State::kKnown;
  --pending_;
  Service* const service = owner(key);
  if (service != nullptr && --service->pending == 0) {
    finish(folder_of(key), *service);
  }
}

void ZookeeperWatch::drop(const Key& key) {
  const auto found = nodes_.find(key);
  if (found == nodes_.end()) return;
  if (found->second.state != State::kKnown) {
    --pending_;
    if (Service* const service = owner(key)) --service->pending;
  }
  nodes_.erase(found);
}

std::string ZookeeperWatch::folder_of(const Key& key) {
  return key.data ? key.path.substr(0, key.path.rfind('/')) : key.path;
}

ZookeeperWatch::Service* ZookeeperWatch::owner(const Key& key) {
  const auto found = services_.find(folder_of(key));
  return found == services_.end() ? nullptr : &found->second;
}

std::vector<ZookeeperWatch::Ask> ZookeeperWatch::take_asks(std::size_t room) {
  std::vector<Ask> asks;
  while (asks.size() < room && !due_.empty()) {
    const Key key = std::move(due_.front());
    due_.pop_front();
    const auto found = nodes_.find(key);
    if (found == nodes_.end() || found->second.state != State::kDue) continue;  // dropped since
    found->second.state = State::kAsked;
    const std::string path = chroot_ + key.path;
    asks.push_back({found->second.what, path.empty() ? "/" : path});
  }
  return asks;
}

base::Result<void> ZookeeperWatch::answered(const Ask& ask, const ZookeeperAnswer& answer) {
  using namespace zookeeper_error;
  if (answer.error == kNoAuth || answer.error == kNeedsAuth || answer.error == kAuthFailed) {
    return base::fail(ErrorKind::kPermission,
                      "read " + std::string(to_string(ask.what)) + " of " + ask.path +
                          " in ZooKeeper: " + zookeeper_error_text(answer.error),
                      "give the user of auth_file the permission to read it, or leave it out of services");
  }
  if (answer.error != kOk && answer.error != kNoNode) {
    return base::fail(ErrorKind::kUnavailable, "read " + std::string(to_string(ask.what)) + " of " + ask.path +
                                                   " in ZooKeeper: " + zookeeper_error_text(answer.error));
  }
  const Key key{ask.path == "/" ? "" : ask.path.substr(chroot_.size()), ask.what == ZookeeperRead::kData};
  const auto found = nodes_.find(key);
  // Dropped since, and maybe wanted again: then another answer is to come.
  if (found == nodes_.end() || found->second.state == State::kDue) return {};
  const bool there = answer.error == kOk;
  ZookeeperRead next = ask.what;
  bool again = std::exchange(found->second.again, false);
  if (key.data) {
    take_member(key, answer);
  } else if (ask.what == ZookeeperRead::kExists ? there : !there) {
    // What isn't there is watched for its coming; what came is read.
    next = there ? ZookeeperRead::kChildren : ZookeeperRead::kExists;
    again = true;
  }
  if (!key.data && ask.what == ZookeeperRead::kChildren) {
    if (bases_.contains(key.path)) take_base(key.path, answer.children);
    if (Service* const service = owner(key)) take_folder(key.path, *service, answer.children);
  }
  Node& node = found->second;  // a map's elements stay where they are
  if (!again) {
    if (node.state == State::kAsked) {
      settle(key, node);
    } else if (Service* const service = owner(key); service != nullptr && service->pending == 0) {
      finish(folder_of(key), *service);
    }
    return {};
  }
  if (node.state == State::kKnown) {
    this->ask(key, next);
  } else {
    node.what = next;
    node.state = State::kDue;
    due_.push_back(key);
  }
  return {};
}

void ZookeeperWatch::happened(const ZookeeperNews& news) {
  if (!news.path.starts_with(chroot_)) return;
  const std::string path = news.path == "/" ? "" : news.path.substr(chroot_.size());
  const bool deleted = news.type == static_cast<std::int32_t>(ZookeeperEvent::kDeleted);
  const Key tree{path};
  if ((deleted || news.type == static_cast<std::int32_t>(ZookeeperEvent::kCreated) ||
       news.type == static_cast<std::int32_t>(ZookeeperEvent::kChildrenChanged)) &&
      nodes_.contains(tree)) {
    ask(tree, ZookeeperRead::kChildren);
  }
  const Key data{path, true};
  if ((deleted || news.type == static_cast<std::int32_t>(ZookeeperEvent::kDataChanged)) && nodes_.contains(data)) {
    ask(data, ZookeeperRead::kData);
  }
}

void ZookeeperWatch::add_service(const ZookeeperRule& rule, const std::string& name) {
  const std::string folder = rule.folder(name);
  const auto [service, fresh] = services_.try_emplace(folder, Service{.rule = &rule, .name = name});
  if (!fresh) return;
  ++unknown_;
  const auto node = nodes_.find({folder});  // where it is a folder with a pattern as well
  if (node != nodes_.end() && node->second.state != State::kKnown) ++service->second.pending;
  if (const auto kept = kept_.find(folder); kept != kept_.end()) service->second.kept = kept->second;
  ask({folder}, ZookeeperRead::kChildren);
}

void ZookeeperWatch::take_base(const std::string& base, const std::vector<std::string>& names) {
  std::set<std::string> wanted;
  for (const std::string& name : names) {
    const auto rule = std::ranges::find_if(
        settings_.services, [&](const ZookeeperRule& one) { return one.base() == base && matches(one, name); });
    if (rule == settings_.services.end()) continue;
    add_service(*rule, name);
    wanted.insert(rule->folder(name));
  }
  for (auto at = services_.begin(); at != services_.end();) {
    const auto& [folder, service] = *at;
    if (service.rule->is_exact() || service.rule->base() != base || wanted.contains(folder)) {
      ++at;
      continue;
    }
    for (const auto& [node, member] : service.members) drop({folder + "/" + node, true});
    // A folder that is a base as well stays watched.
    if (bases_.contains(folder)) {
      if (nodes_.at({folder}).state != State::kKnown) --at->second.pending;
    } else {
      drop({folder});
    }
    if (!service.known) --unknown_;
    at = services_.erase(at);
    changed_ = true;
  }
  if (!std::exchange(bases_.at(base), true)) --unknown_;
}

void ZookeeperWatch::take_folder(const std::string& folder, Service& service, const std::vector<std::string>& names) {
  const std::set<std::string> listed(names.begin(), names.end());
  std::erase_if(service.members, [&](const auto& one) {
    if (listed.contains(one.first)) return false;
    drop({folder + "/" + one.first, true});
    return true;
  });
  for (const std::string& name : listed) {
    const auto [member, fresh] = service.members.try_emplace(name);
    if (!fresh && !member->second.gone) continue;
    const Key key{folder + "/" + name, true};
    if (has_data(service.rule->layout)) {
      ask(key, ZookeeperRead::kData);
    } else {
      take_member(key, {});
    }
  }
}

void ZookeeperWatch::take_member(const Key& key, const ZookeeperAnswer& answer) {
  Service* const service = owner(key);
  const std::string name = key.path.substr(key.path.rfind('/') + 1);
  Member& member = service->members.at(name);
  member.instance.reset();
  member.gone = answer.error != zookeeper_error::kOk;
  if (member.gone) return;
  auto parsed = parse_zookeeper_node(*service->rule, name, answer.data, answer.zxid);
  if (!parsed)
    return report("read " + chroot_ + key.path + " in ZooKeeper: " + parsed.error().message + ", so it is left out",
                  parsed.error().remedy);
  member.instance = std::move(*parsed);
}

void ZookeeperWatch::finish(const std::string& folder, Service& service) {
  std::vector<ZookeeperInstance> instances;
  for (const auto& [name, member] : service.members) {
    if (member.instance) instances.push_back(*member.instance);
  }
  const bool first = !std::exchange(service.known, true);
  if (first) --unknown_;
  if (!first && instances == service.instances) return;
  service.instances = std::move(instances);
  InstancesMapped mapped = mapper_.map(service.name, *service.rule, service.instances, service.kept);
  service.mapped = share(std::move(mapped.services), service.mapped);
  changed_ = true;
  if (mapped.notes != service.notes && !mapped.notes.empty()) {
    std::string text;
    for (const std::string& note : mapped.notes) text += (text.empty() ? "" : "; ") + note;
    report("service " + chroot_ + folder + " of ZooKeeper: " + text, {});
  }
  service.notes = std::move(mapped.notes);
}

void ZookeeperWatch::report(std::string what, std::string remedy) {
  if (reports_.size() < kMaxReports) reports_.push_back({ErrorKind::kInvalid, std::move(what), std::move(remedy), 0});
}

std::optional<std::vector<model::ServicePtr>> ZookeeperWatch::take_update() {
  if (unknown_ == 0 && !complete_) {
    complete_ = true;
    kept_.clear();
  }
  if (!complete_ || !std::exchange(changed_, false)) return std::nullopt;
  std::vector<model::ServicePtr> update;
  std::set<std::tuple<std::string, base::SocketAddress, model::Protocol>> seen;
  std::string twice;
  for (const auto& [folder, service] : services_) {
    for (const model::ServicePtr& one : service.mapped) {
      if (seen.emplace(one->name, one->frontend.address, one->frontend.protocol).second) {
        update.push_back(one);
      } else {
        twice += (twice.empty() ? "" : ", ") + folder;
      }
    }
  }
  if (!twice.empty() && twice != twice_) {
    report("services of ZooKeeper: another one has the same name and port, so these are left out: " + twice,
           "give one of them a name or a port");
  }
  twice_ = std::move(twice);
  return update;
}

std::vector<base::Error> ZookeeperWatch::take_reports() { return std::exchange(reports_, {}); }

}  // namespace mesh::discovery
