// SPDX-License-Identifier: Apache-2.0
#include "discovery/xds_watch.hpp"

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "discovery/registry.hpp"

namespace mesh::discovery {

using base::TimePoint;

namespace {

constexpr std::size_t kMaxComplaints = 5;  // of one answer
constexpr std::size_t kMaxText = 200;      // bytes of what a server says, in messages

std::string quoted(std::string_view text) {
  std::string clean(text.substr(0, kMaxText));
  for (char& c : clean) {
    if (static_cast<unsigned char>(c) < ' ' || static_cast<unsigned char>(c) > '~') c = '?';
  }
  return "'" + clean + "'";
}

}  // namespace

class XdsWatch::Complaint {
 public:
  void add(const std::string& text) {
    if (++count_ <= kMaxComplaints) text_ += (text_.empty() ? "" : "; ") + text;
  }
  [[nodiscard]] bool any() const { return count_ > 0; }
  [[nodiscard]] std::string text() const {
    return count_ <= kMaxComplaints ? text_ : text_ + "; and " + std::to_string(count_ - kMaxComplaints) + " more";
  }

 private:
  std::string text_;
  std::size_t count_ = 0;
};

XdsWatch::XdsWatch(XdsSettings settings, ServicePolicy policy, xds::Node node)
    : settings_(std::move(settings)), node_(std::move(node)), mapper_(std::move(policy)) {}

void XdsWatch::restart(TimePoint now) {
  for (auto& [name, endpoints] : endpoints_) {
    endpoints.asked = false;
    endpoints.until.reset();
  }
  awaited_ = 0;
  clusters_said_ = false;
  node_said_ = false;
  refused_clusters_.reset();
  refused_endpoints_.reset();
  silent_until_ = now + settings_.timeout;
  eds_.restart();
  cds_.restart();
  cds_.want({}, now, true);
}

void XdsWatch::answered(xds::Answer answer, TimePoint now) {
  silent_until_.reset();
  const bool about_clusters = answer.type == xds::Type::kCluster;
  if (!about_clusters && answer.type != xds::Type::kEndpoints) {
    notes_.push_back({base::ErrorKind::kInvalid, "the server said " + quoted(answer.type_url) + ", unasked", {}, 0});
    return;
  }
  Complaint complaint;
  for (const std::string& problem : answer.problems) complaint.add(problem);
  {
    std::set<std::string_view> names;
    const auto add_name = [&](const std::string& name) {
      if (name.empty()) complaint.add("a resource has no name");
      if (!names.insert(name).second) complaint.add(quoted(name) + " stands twice");
    };
    for (const xds::Cluster& cluster : answer.clusters) add_name(cluster.name);
    for (const xds::Assignment& assignment : answer.assignments) add_name(assignment.name);
  }
  if (!complaint.any()) {
    if (about_clusters) {
      take_clusters(answer.clusters, complaint, now);
    } else {
      take_assignments(std::move(answer.assignments), complaint);
    }
  }
  XdsSubscription& subscription = about_clusters ? cds_ : eds_;
  std::optional<base::Error>& refused = about_clusters ? refused_clusters_ : refused_endpoints_;
  if (complaint.any()) {
    refused = base::Error{base::ErrorKind::kInvalid,
                          "refused version " + quoted(answer.version) + " of " + std::string(to_string(*answer.type)) +
                              ": " + complaint.text(),
                          "the last good state of what it concerns stays in force; correct it at the control plane", 0};
    subscription.refuse(answer, complaint.text(), now);
    refusals_.push_back(
        {.what = std::string(to_string(*answer.type)), .version = answer.version, .why = complaint.text()});
  } else {
    refused.reset();
    subscription.accept(answer, now);
  }
}

void XdsWatch::take_clusters(const std::vector<xds::Cluster>& said, Complaint& complaint, TimePoint now) {
  clusters_said_ = true;
  Clusters before = std::exchange(clusters_, {});
  for (auto& [name, endpoints] : endpoints_) endpoints.clusters.clear();
  for (const xds::Cluster& from : said) {
    const XdsRule* const rule = find_xds_rule(settings_.services, from.name);
    if (rule == nullptr) continue;
    Cluster cluster;
    if (auto known = before.extract(from.name)) cluster = std::move(known.mapped());
    cluster.rule = rule;
    const std::string had = std::exchange(cluster.eds_name, {});
    if (from.kind == xds::Cluster::Kind::kAds) {
      cluster.eds_name = from.eds_name.empty() ? from.name : from.eds_name;
      Endpoints& endpoints = endpoints_[cluster.eds_name];
      endpoints.clusters.insert(from.name);
      if (cluster.eds_name != had && endpoints.last_good) {
        map(from.name, cluster, xds_instances(*endpoints.last_good).value());
      }
    } else if (from.kind == xds::Cluster::Kind::kStatic) {
      if (const auto instances = xds_instances(from.assignment)) {
        map(from.name, cluster, *instances);
      } else {
        complaint.add("cluster " + quoted(from.name) + ": " + instances.error().message);
      }
    } else {
      unmap(cluster);
      note(from.name, cluster,
           {"its endpoints come by " + quoted(from.kind_name) + ", so it is left out: use a source of its own kind"});
    }
    clusters_.emplace(from.name, std::move(cluster));
  }
  for (auto& [name, gone] : before) unmap(gone);
  find_namesakes();

  std::vector<std::string> wanted;
  for (auto entry = endpoints_.begin(); entry != endpoints_.end();) {
    auto& [name, endpoints] = *entry;
    if (endpoints.clusters.empty()) {
      if (endpoints.until) --awaited_;
      entry = endpoints_.erase(entry);
      continue;
    }
    if (!std::exchange(endpoints.asked, true)) {
      endpoints.until = now + settings_.timeout;
      ++awaited_;
    }
    wanted.push_back(name);
    ++entry;
  }
  eds_.want(std::move(wanted), now);
}

void XdsWatch::take_assignments(std::vector<xds::Assignment> said, Complaint& complaint) {
  for (xds::Assignment& assignment : said) {
    const auto wanted = endpoints_.find(assignment.name);
    if (wanted == endpoints_.end()) continue;
    Endpoints& endpoints = wanted->second;
    if (endpoints.until) {
      endpoints.until.reset();
      --awaited_;
    }
    if (endpoints.last_good == assignment) continue;
    const auto instances = xds_instances(assignment);
    if (!instances) {
      complaint.add("endpoints of " + quoted(assignment.name) + ": " + instances.error().message);
      continue;
    }
    for (const std::string& name : endpoints.clusters) map(name, clusters_.find(name)->second, *instances);
    endpoints.last_good = std::move(assignment);
  }
}

void XdsWatch::find_namesakes() {
  const auto name_of = [](const auto& one) {
    const std::string& given = one.second.rule->name;
    return given.empty() ? xds_name(one.first).name : given;
  };
  std::unordered_map<std::string, unsigned> bearers;
  for (const auto& one : clusters_) ++bearers[name_of(one)];
  for (auto& one : clusters_) one.second.alone = bearers[name_of(one)] == 1;
}

void XdsWatch::map(const std::string& name, Cluster& cluster, const std::vector<Instance>& instances) {
  const XdsRule& rule = *cluster.rule;
  const XdsName named = xds_name(name);
  const InstancesAs as{.name = rule.name.empty() ? named.name : rule.name,
                       .origin = "cluster " + name,
                       .address = rule.address,
                       .port = rule.port != 0 ? rule.port : named.port};
  InstancesMapped mapped = mapper_.map(as, instances, cluster.kept);
  auto fresh = share(std::move(mapped.services), cluster.mapped);
  if (cluster.alone && stand_for(fresh, cluster.mapped)) {
    for (std::size_t i = 0; i < fresh.size(); ++i) {
      if (fresh[i] != cluster.mapped[i]) exchanged_.push_back(fresh[i]);
    }
  } else {
    changed_ = changed_ || fresh != cluster.mapped;
  }
  cluster.mapped = std::move(fresh);
  note(name, cluster, std::move(mapped.notes));
}

void XdsWatch::unmap(Cluster& cluster) {
  if (!cluster.mapped.empty()) changed_ = true;
  cluster.mapped.clear();
}

void XdsWatch::note(const std::string& name, Cluster& cluster, std::vector<std::string> notes) {
  if (notes != cluster.notes && !notes.empty()) {
    std::string text;
    for (const std::string& one : notes) text += (text.empty() ? "" : "; ") + one;
    notes_.push_back({base::ErrorKind::kInvalid, "cluster " + quoted(name) + ": " + text, {}, 0});
  }
  cluster.notes = std::move(notes);
}

base::Result<void> XdsWatch::look(TimePoint now) {
  if (silent_until_ && *silent_until_ <= now) {
    return base::fail(base::ErrorKind::kTimeout,
                      "ask " + settings_.server + ": it has taken the stream and says nothing",
                      "see whether it knows the node '" + node_.id + "'");
  }
  std::vector<std::string> missing;
  for (auto& [name, endpoints] : endpoints_) {
    if (awaited_ == 0) break;
    if (!endpoints.until || *endpoints.until > now) continue;
    endpoints.until.reset();
    --awaited_;
    missing.push_back(name);
  }
  if (!missing.empty()) {
    notes_.push_back({base::ErrorKind::kNotFound,
                      "endpoints of " + quoted(missing.front()) +
                          (missing.size() > 1 ? " and " + std::to_string(missing.size() - 1) + " more" : "") +
                          " were not said in time",
                      "the server names the cluster and has to name its endpoints, even if there are none", 0});
  }
  return {};
}

std::vector<xds::Request> XdsWatch::take_requests(TimePoint now) {
  std::vector<xds::Request> requests;
  for (XdsSubscription* const subscription : {&cds_, &eds_}) {
    auto request = subscription->take(now);
    if (!request) continue;
    if (!std::exchange(node_said_, true)) request->node = node_;
    requests.push_back(std::move(*request));
  }
  return requests;
}

TimePoint XdsWatch::due() const {
  TimePoint due = TimePoint::max();
  for (const auto& one : {cds_.due(), eds_.due(), silent_until_}) due = std::min(due, one.value_or(due));
  if (awaited_ > 0) {
    for (const auto& [name, endpoints] : endpoints_) due = std::min(due, endpoints.until.value_or(due));
  }
  return due;
}

std::vector<model::ServicePtr> XdsWatch::take_exchanged() {
  return changed_ ? std::vector<model::ServicePtr>{} : std::exchange(exchanged_, {});
}

std::optional<std::vector<model::ServicePtr>> XdsWatch::take_update() {
  if (!changed_ && exchanged_.empty()) return std::nullopt;
  changed_ = false;
  exchanged_.clear();
  std::vector<model::ServicePtr> services;
  for (const auto& [name, cluster] : clusters_) {
    services.insert(services.end(), cluster.mapped.begin(), cluster.mapped.end());
  }
  return services;
}

std::vector<base::Error> XdsWatch::take_notes() { return std::exchange(notes_, {}); }

std::vector<model::Refusal> XdsWatch::take_refusals() { return std::exchange(refusals_, {}); }

}  // namespace mesh::discovery
