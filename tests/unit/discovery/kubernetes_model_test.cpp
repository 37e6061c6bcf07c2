// SPDX-License-Identifier: Apache-2.0
// Objects to expected backends, row by row as kube-proxy's rules have it (pkg/proxy/topology.go CategorizeEndpoints,
// endpointslicecache.go), and where we are told to do better: duplicates and ghosts.
#include "discovery/kubernetes_model.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "base/random.hpp"

namespace mesh::discovery::kubernetes {
namespace {

using namespace std::chrono_literals;
using model::Protocol;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

base::IpAddress ip(std::string_view text) { return *base::IpAddress::parse(text); }

/// "r" ready, "s" serving, "t" terminating.
SliceEndpoint endpoint(std::string_view address, std::string_view state = "rs", std::string node = "") {
  return {.ip = ip(address),
          .node = std::move(node),
          .ready = state.contains('r'),
          .serving = state.contains('s'),
          .terminating = state.contains('t')};
}

SliceObject slice(std::vector<SliceEndpoint> endpoints, std::string name = "orders-1") {
  SliceObject made;
  made.meta = {.name = std::move(name), .space = "shop", .service_name = "orders"};
  made.type = AddressType::kV4;
  made.ports = {{.name = "http", .port = 8080}};
  made.endpoints = std::move(endpoints);
  return made;
}

ServiceObject orders() {
  ServiceObject made;
  made.meta = {.name = "orders", .space = "shop"};
  made.ports = {{.name = "http", .port = 80}};
  made.cluster_ips = {ip("10.96.0.10")};
  made.v4 = true;
  return made;
}

std::vector<model::ServicePtr> import(const ServiceObject& service, const std::vector<SliceObject>& slices,
                                      const ImportRules& rules = {}) {
  std::vector<const SliceObject*> pointers;
  for (const SliceObject& one : slices) pointers.push_back(&one);
  std::vector<std::string> problems;
  return import_service(service, pointers, rules, problems);
}

/// "10.1.0.1:8080" gets connections, "...*0" has weight 0, "...*draining" is leaving, "...*5" has weight 5.
std::vector<std::string> describe(const model::Service& service) {
  std::vector<std::string> texts;
  for (const model::Endpoint& one : service.endpoints) {
    texts.push_back(one.address.to_string() + (one.draining ? "*draining" : "") +
                    (one.weight != 1 ? "*" + std::to_string(one.weight) : ""));
  }
  return texts;
}

std::vector<std::string> backends(const ServiceObject& service, const std::vector<SliceObject>& slices,
                                  const ImportRules& rules = {}) {
  const auto services = import(service, slices, rules);
  return services.empty() ? std::vector<std::string>{"no service"} : describe(*services.front());
}

TEST(KubernetesModel, ready_endpoints_get_connections) {
  EXPECT_THAT(backends(orders(), {slice({endpoint("10.1.0.2"), endpoint("10.1.0.1")})}),
              ElementsAre("10.1.0.1:8080", "10.1.0.2:8080"));
  EXPECT_THAT(backends(orders(), {}), IsEmpty());
}

TEST(KubernetesModel, who_is_chosen_by_state) {
  struct Row {
    const char* why;
    std::vector<SliceEndpoint> endpoints;
    std::vector<std::string> expected;
  };
  const Row rows[] = {
      {"not ready gets none, and stays for its connections",
       {endpoint("10.1.0.1"), endpoint("10.1.0.2", "")},
       {"10.1.0.1:8080", "10.1.0.2:8080*0"}},
      {"not ready but serving gets none while it does not terminate", {endpoint("10.1.0.1", "s")}, {"10.1.0.1:8080*0"}},
      {"terminating gives way to ready",
       {endpoint("10.1.0.1"), endpoint("10.1.0.2", "st")},
       {"10.1.0.1:8080", "10.1.0.2:8080*draining"}},
      {"with nobody ready those that terminate but serve are used",
       {endpoint("10.1.0.1", "st"), endpoint("10.1.0.2", "t"), endpoint("10.1.0.3", "")},
       {"10.1.0.1:8080", "10.1.0.2:8080*draining", "10.1.0.3:8080*0"}},
      {"terminating and not serving is never used", {endpoint("10.1.0.1", "t")}, {"10.1.0.1:8080*draining"}},
      {"publishNotReadyAddresses: the slice says ready though it terminates",
       {endpoint("10.1.0.1", "rst")},
       {"10.1.0.1:8080"}},
  };
  for (const Row& row : rows) EXPECT_EQ(backends(orders(), {slice(row.endpoints)}), row.expected) << row.why;
}

TEST(KubernetesModel, ports_meet_by_name_and_protocol) {
  ServiceObject service = orders();
  service.ports = {{.name = "http", .port = 80},
                   {.name = "admin", .port = 81},
                   {.name = "dns", .port = 53, .protocol = Protocol::kUdp},
                   {.name = "sctp", .port = 9, .protocol = std::nullopt}};
  SliceObject one = slice({endpoint("10.1.0.1")});
  one.ports = {{.name = "http", .port = 8080},
               {.name = "dns", .port = 5353, .protocol = Protocol::kUdp},
               {.name = "dns", .port = 5354, .protocol = Protocol::kTcp},
               {.name = "admin", .port = 0}};
  SliceObject two = slice({endpoint("10.1.0.2")}, "orders-2");  // pods with another number for a named port
  two.ports = {{.name = "http", .port = 9090}};
  const auto services = import(service, {one, two});
  ASSERT_THAT(services, SizeIs(3));
  EXPECT_EQ(services[0]->frontend.to_string(), "10.96.0.10:80/tcp");
  EXPECT_THAT(describe(*services[0]), ElementsAre("10.1.0.1:8080", "10.1.0.2:9090"));
  EXPECT_EQ(services[1]->frontend.to_string(), "10.96.0.10:81/tcp");
  EXPECT_THAT(describe(*services[1]), IsEmpty()) << "a nil port is nothing to connect to";
  EXPECT_EQ(services[2]->frontend.to_string(), "10.96.0.10:53/udp");
  EXPECT_THAT(describe(*services[2]), ElementsAre("10.1.0.1:5353"));
  EXPECT_EQ(services[2]->origin, "shop/orders:dns");
  EXPECT_EQ(services[2]->name, "orders.shop");
}

TEST(KubernetesModel, an_unnamed_port_is_the_empty_name) {
  ServiceObject service = orders();
  service.ports = {{.port = 80}};
  SliceObject one = slice({endpoint("10.1.0.1")});
  one.ports = {{.port = 8080}};
  EXPECT_THAT(backends(service, {one}), ElementsAre("10.1.0.1:8080"));
  EXPECT_THAT(backends(service, {slice({endpoint("10.1.0.1")})}), IsEmpty()) << "'http' is not ''";
}

TEST(KubernetesModel, dual_stack_gives_each_family_its_own) {
  ServiceObject service = orders();
  service.cluster_ips.push_back(ip("fd00::10"));
  SliceObject six = slice({endpoint("fd00:1::1")}, "orders-v6");
  six.type = AddressType::kV6;
  SliceObject names = slice({}, "orders-fqdn");
  names.type = AddressType::kOther;
  const auto services = import(service, {slice({endpoint("10.1.0.1")}), six, names});
  ASSERT_THAT(services, SizeIs(2));
  EXPECT_THAT(describe(*services[0]), ElementsAre("10.1.0.1:8080"));
  EXPECT_EQ(services[1]->frontend.to_string(), "[fd00::10]:80/tcp");
  EXPECT_THAT(describe(*services[1]), ElementsAre("[fd00:1::1]:8080"));
}

TEST(KubernetesModel, one_pod_in_two_slices_is_as_the_later_says) {
  const auto moved = [](std::string_view state, std::string changed, std::string name) {
    SliceEndpoint one = endpoint("10.1.0.1", state);
    one.target = 7;
    SliceObject made = slice({one}, std::move(name));
    made.meta.changed_at = std::move(changed);
    return made;
  };
  for (const bool swapped : {false, true}) {
    std::vector<SliceObject> slices = {moved("rs", "2026-11-20T12:00:00Z", "a"),
                                       moved("", "2026-11-20T12:00:00.5Z", "b")};
    if (swapped) std::swap(slices[0], slices[1]);
    EXPECT_THAT(backends(orders(), slices), ElementsAre("10.1.0.1:8080*0"));
  }
  EXPECT_THAT(backends(orders(), {moved("", "", "a"), moved("rs", "", "b")}), ElementsAre("10.1.0.1:8080"))
      << "without a time the better state counts";
}

TEST(KubernetesModel, a_ghost_does_not_hide_the_pod_that_got_its_address) {
  SliceEndpoint ghost = endpoint("10.1.0.1", "t");
  ghost.target = 1;
  SliceEndpoint alive = endpoint("10.1.0.1", "rs");
  alive.target = 2;
  SliceObject newer = slice({ghost}, "z");
  newer.meta.changed_at = "2026-11-20T13:00:00Z";
  SliceObject older = slice({alive}, "a");
  older.meta.changed_at = "2026-11-20T12:00:00Z";
  EXPECT_THAT(backends(orders(), {newer, older}), ElementsAre("10.1.0.1:8080"));
  EXPECT_THAT(backends(orders(), {older, newer}), ElementsAre("10.1.0.1:8080"));
  EXPECT_THAT(backends(orders(), {slice({ghost, alive})}), ElementsAre("10.1.0.1:8080"));
}

TEST(KubernetesModel, one_address_with_two_ports_is_two_endpoints) {
  SliceObject two = slice({endpoint("10.1.0.1")}, "orders-2");
  two.ports[0].port = 9090;
  EXPECT_THAT(backends(orders(), {slice({endpoint("10.1.0.1")}), two}), ElementsAre("10.1.0.1:8080", "10.1.0.1:9090"));
}

TEST(KubernetesModel, internal_policy_local_uses_this_node_only) {
  ServiceObject service = orders();
  service.internal_local = true;
  const ImportRules rules{.here = {.zone = "a", .node = "n1"}};
  const auto here = endpoint("10.1.0.1", "rs", "n1");
  const auto there = endpoint("10.1.0.2", "rs", "n2");
  EXPECT_THAT(backends(service, {slice({here, there})}, rules), ElementsAre("10.1.0.1:8080"));
  EXPECT_THAT(backends(service, {slice({there})}, rules), IsEmpty()) << "never falls back to another node";
  EXPECT_THAT(backends(service, {slice({endpoint("10.1.0.1", "st", "n1"), there})}, rules),
              ElementsAre("10.1.0.1:8080"))
      << "terminating here before ready there";
  EXPECT_THAT(backends(service, {slice({here, there})}), IsEmpty()) << "this node's name is unknown";
}

TEST(KubernetesModel, hints) {
  const ImportRules rules{.here = {.zone = "a", .node = "n1"}};
  const auto hinted = [](std::string_view address, std::vector<std::string> zones, std::vector<std::string> nodes = {},
                         std::string_view state = "rs") {
    SliceEndpoint one = endpoint(address, state);
    one.zone_hints = std::move(zones);
    one.node_hints = std::move(nodes);
    return one;
  };
  struct Row {
    const char* why;
    std::vector<SliceEndpoint> endpoints;
    std::vector<std::string> expected;
  };
  const Row rows[] = {
      {"zone hints choose; the others stay for their connections",
       {hinted("10.1.0.1", {"a"}), hinted("10.1.0.2", {"b"}), hinted("10.1.0.3", {"a", "b"})},
       {"10.1.0.1:8080", "10.1.0.2:8080*0", "10.1.0.3:8080"}},
      {"one ready endpoint without a hint: all hints are ignored",
       {hinted("10.1.0.1", {"a"}), hinted("10.1.0.2", {"b"}), hinted("10.1.0.3", {})},
       {"10.1.0.1:8080", "10.1.0.2:8080", "10.1.0.3:8080"}},
      {"a hint may be missing where nobody is ready",
       {hinted("10.1.0.1", {"a"}), hinted("10.1.0.2", {"b"}), hinted("10.1.0.3", {}, {}, "")},
       {"10.1.0.1:8080", "10.1.0.2:8080*0", "10.1.0.3:8080*0"}},
      {"none for this zone: ignored",
       {hinted("10.1.0.1", {"b"}), hinted("10.1.0.2", {"c"})},
       {"10.1.0.1:8080", "10.1.0.2:8080"}},
      {"hints of nodes come before those of zones",
       {hinted("10.1.0.1", {"a"}, {"n1"}), hinted("10.1.0.2", {"a"}, {"n2"})},
       {"10.1.0.1:8080", "10.1.0.2:8080*0"}},
      {"none for this node: zones",
       {hinted("10.1.0.1", {"a"}, {"n3"}), hinted("10.1.0.2", {"b"}, {"n2"})},
       {"10.1.0.1:8080", "10.1.0.2:8080*0"}},
      {"one not ready for this zone does not make hints count",
       {hinted("10.1.0.1", {"a"}, {}, ""), hinted("10.1.0.2", {"b"})},
       {"10.1.0.1:8080*0", "10.1.0.2:8080"}},
      {"the fallback to those that terminate knows no hints",
       {hinted("10.1.0.1", {"a"}, {}, "st"), hinted("10.1.0.2", {"b"}, {}, "st")},
       {"10.1.0.1:8080", "10.1.0.2:8080"}},
  };
  for (const Row& row : rows) EXPECT_EQ(backends(orders(), {slice(row.endpoints)}, rules), row.expected) << row.why;
  EXPECT_THAT(backends(orders(), {slice({hinted("10.1.0.1", {"a"}), hinted("10.1.0.2", {"b"})})}), SizeIs(2))
      << "this zone is unknown";
}

TEST(KubernetesModel, external_addresses_only_when_asked_and_by_the_cluster_policy) {
  ServiceObject service = orders();
  service.internal_local = true;
  service.external_ips = {ip("192.0.2.7")};
  const std::vector<SliceObject> slices = {slice({endpoint("10.1.0.1", "rs", "n2")})};
  EXPECT_THAT(import(service, slices), SizeIs(1));
  const auto services = import(service, slices, {.here = {.node = "n1"}, .external_addresses = true});
  ASSERT_THAT(services, SizeIs(2));
  EXPECT_THAT(describe(*services[0]), IsEmpty()) << "its address in the cluster is local";
  EXPECT_EQ(services[1]->frontend.to_string(), "192.0.2.7:80/tcp");
  EXPECT_THAT(describe(*services[1]), ElementsAre("10.1.0.1:8080"));
}

TEST(KubernetesModel, what_has_no_address_is_no_service) {
  ServiceObject name = orders();
  name.cluster_ips.clear();
  name.external_name = true;
  name.external_ips = {ip("192.0.2.7")};
  EXPECT_THAT(import(name, {}, {.headless = true, .external_addresses = true}), IsEmpty()) << "ExternalName";
  ServiceObject headless = orders();
  headless.cluster_ips.clear();
  headless.headless = true;
  headless.v6 = true;
  EXPECT_THAT(import(headless, {}), IsEmpty());
  const auto services = import(headless, {slice({endpoint("10.1.0.1")})}, {.headless = true});
  ASSERT_THAT(services, SizeIs(2)) << "the agent gives it one of each family";
  EXPECT_EQ(services[0]->frontend.to_string(), "0.0.0.0:80/tcp");
  EXPECT_THAT(describe(*services[0]), ElementsAre("10.1.0.1:8080"));
  EXPECT_EQ(services[1]->frontend.to_string(), "[::]:80/tcp");
  ServiceObject foreign = orders();
  foreign.meta.foreign_proxy = true;
  EXPECT_THAT(import(foreign, {}), IsEmpty()) << "another proxy's";
}

TEST(KubernetesModel, client_ip_affinity_has_its_timeout) {
  ServiceObject service = orders();
  EXPECT_EQ(import(service, {})[0]->affinity_timeout, 0s);
  service.client_ip_affinity = true;
  EXPECT_EQ(import(service, {})[0]->affinity_timeout, 10800s);
  service.affinity_timeout = 60s;
  EXPECT_EQ(import(service, {})[0]->affinity_timeout, 60s);
}

TEST(KubernetesModel, weights_by_annotation) {
  SliceObject half = slice({endpoint("10.1.0.3")}, "canary");
  half.meta.annotations = {{"weight", "5"}};
  SliceEndpoint pod = endpoint("10.1.0.1");
  pod.pod = identity_hash("orders-0");
  ServiceObject service = orders();
  EXPECT_THAT(backends(service, {slice({pod, endpoint("10.1.0.2")}), half}),
              ElementsAre("10.1.0.1:8080", "10.1.0.2:8080", "10.1.0.3:8080*5"));
  service.meta.annotations = {{"weights", "orders-0=9, 10.1.0.2=0,10.1.0.3=7"}};
  EXPECT_THAT(backends(service, {slice({pod, endpoint("10.1.0.2")}), half}),
              ElementsAre("10.1.0.1:8080*9", "10.1.0.2:8080*0", "10.1.0.3:8080*7"));
}

TEST(KubernetesModel, annotations_are_keys_of_a_service) {
  std::vector<std::string> problems;
  const ServicePolicy policy = annotated_policy(
      {}, {{"balance", "maglev"}, {"panic-threshold", "0"}, {"probe", "{type: http, path: /healthz}"}, {"weight", "x"}},
      problems);
  EXPECT_THAT(problems, IsEmpty());
  EXPECT_EQ(policy.balance, model::Algorithm::kMaglev);
  EXPECT_EQ(policy.panic_threshold, 0u);
  ASSERT_TRUE(policy.probe);
  EXPECT_EQ(policy.probe->path, "/healthz");
  EXPECT_FALSE(annotated_policy(policy, {{"probe", "none"}}, problems).probe);
}

TEST(KubernetesModel, a_wrong_annotation_costs_only_itself) {
  std::vector<std::string> problems;
  const ServicePolicy policy = annotated_policy({},
                                                {{"balance", "fastest"},
                                                 {"nonsense", "1"},
                                                 {"probe", "{type: http, interval: never}"},
                                                 {"slow-start", "[1"},
                                                 {"prefer", "zone"},
                                                 {"panic-threshold", std::string(5000, '1')}},
                                                problems);
  EXPECT_THAT(problems, SizeIs(5));
  EXPECT_EQ(policy.prefer, model::Preference::kZone);
  EXPECT_EQ(policy.balance, model::Algorithm::kWeightedRandom);
  EXPECT_FALSE(policy.probe);

  ServiceObject service = orders();
  service.meta.annotations = {{"weights", "a,b=70000,=3"}};
  std::vector<std::string> found;
  EXPECT_THAT(import_service(service, {}, {}, found), SizeIs(1));
  EXPECT_THAT(found, SizeIs(2));
  EXPECT_TRUE(found[0].starts_with("service shop/orders: meshd.io/weights: 'a'")) << found[0];
}

TEST(KubernetesModel, udp_is_not_probed) {
  ServiceObject service = orders();
  service.ports[0].protocol = Protocol::kUdp;
  EXPECT_FALSE(import(service, {}, {.policy = {.probe = std::make_shared<model::ProbePolicy>()}})[0]->probe);
}

class KubernetesCluster : public testing::Test {
 protected:
  ServiceObject service(const std::string& space, const std::string& address) {
    ServiceObject made = orders();
    made.meta.space = space;
    made.cluster_ips = {ip(address)};
    return made;
  }
  SliceObject slice_of(const std::string& space, std::vector<SliceEndpoint> endpoints, const std::string& name = "s") {
    SliceObject made = slice(std::move(endpoints), name);
    made.meta.space = space;
    return made;
  }
  std::vector<std::string> view() {
    std::vector<std::string> texts;
    for (const auto& one : cluster_.services()) {
      std::string text = one->frontend.to_string();
      for (const std::string& backend : describe(*one)) text += " " + backend;
      texts.push_back(text);
    }
    std::ranges::sort(texts);
    return texts;
  }
  Cluster cluster_{ImportRules{}};
};

TEST_F(KubernetesCluster, joins_by_label_and_namespace_in_any_order) {
  cluster_.put(slice_of("shop", {endpoint("10.1.0.1")}));
  EXPECT_FALSE(cluster_.update()) << "a slice without its service is nothing yet";
  cluster_.put(service("shop", "10.96.0.1"));
  cluster_.put(service("test", "10.96.0.2"));
  EXPECT_TRUE(cluster_.update());
  EXPECT_THAT(view(), ElementsAre("10.96.0.1:80/tcp 10.1.0.1:8080", "10.96.0.2:80/tcp"));
  cluster_.put(slice_of("test", {endpoint("10.1.0.9")}));
  EXPECT_TRUE(cluster_.update());
  EXPECT_THAT(view(), ElementsAre("10.96.0.1:80/tcp 10.1.0.1:8080", "10.96.0.2:80/tcp 10.1.0.9:8080"));
}

TEST_F(KubernetesCluster, says_whether_anything_came_out_differently) {
  cluster_.put(service("shop", "10.96.0.1"));
  EXPECT_TRUE(cluster_.update());
  EXPECT_FALSE(cluster_.update());
  ServiceObject renewed = service("shop", "10.96.0.1");
  renewed.meta.resource_version = "2";
  cluster_.put(renewed);
  EXPECT_FALSE(cluster_.update());
  cluster_.remove_service("shop/none");
  cluster_.remove_slice("shop/none");
  EXPECT_FALSE(cluster_.update());
  cluster_.remove_service("shop/orders");
  EXPECT_TRUE(cluster_.update());
  EXPECT_THAT(view(), IsEmpty());
}

TEST_F(KubernetesCluster, an_unchanged_service_keeps_its_pointer) {
  cluster_.put(service("shop", "10.96.0.1"));
  cluster_.put(service("test", "10.96.0.2"));
  cluster_.update();
  const auto before = cluster_.services();
  cluster_.put(slice_of("test", {endpoint("10.1.0.9")}));
  cluster_.update();
  const auto after = cluster_.services();
  EXPECT_EQ(
      std::ranges::count_if(after, [&](const auto& one) { return std::ranges::find(before, one) != before.end(); }), 1);
}

TEST_F(KubernetesCluster, changes_one_by_one_lead_to_the_same_services_as_all_at_once) {
  const std::uint64_t seed = std::random_device{}();
  SCOPED_TRACE(seed);
  base::Random random(seed);
  std::map<std::string, ServiceObject> services;
  std::map<std::string, SliceObject> slices;
  std::vector<model::ServicePtr> told;  // as a book has it that was told what was exchanged
  int exchanges = 0;
  int whole = 0;
  for (int round = 0; round < 1000; ++round) {
    const std::string space = std::string(1, static_cast<char>('a' + random.below(6)));
    const std::string key = space + "/orders";
    switch (random.below(4)) {
      case 0:
        services[key] = service(space, "10.96.0." + std::to_string(random.below(8)));
        cluster_.put(services[key]);
        break;
      case 1:
        services.erase(key);
        cluster_.remove_service(key);
        break;
      default: {
        const SliceObject slice = slice_of(space, {endpoint("10.1.0." + std::to_string(random.below(4)))});
        slices[slice.meta.key()] = slice;
        cluster_.put(slice);
      }
    }
    if (random.below(3) == 0) continue;
    cluster_.update();
    Cluster fresh(ImportRules{});
    for (const auto& [one, object] : services) fresh.put(object);
    for (const auto& [one, object] : slices) fresh.put(object);
    fresh.update();
    const auto same = [](const auto& a, const auto& b) { return a->same_as(*b); };
    for (const auto& one : cluster_.take_exchanged()) {
      const auto old = std::ranges::find_if(
          told, [&](const auto& before) { return before->frontend == one->frontend && before->name == one->name; });
      ASSERT_NE(old, told.end()) << "round " << round;
      *old = one;
      ++exchanges;
    }
    if (!std::ranges::equal(told, cluster_.services(), same)) ++whole;
    told = cluster_.services();
    ASSERT_TRUE(std::ranges::equal(told, fresh.services(), same)) << "round " << round;
  }
  EXPECT_GT(exchanges, 0) << "most changes are of endpoints";
  EXPECT_GT(whole, 0);
}

TEST_F(KubernetesCluster, of_two_that_claim_an_address_always_the_same_has_it) {
  for (const char* const space : {"b", "a", "c"}) cluster_.put(service(space, "10.96.0.1"));
  cluster_.update();
  const auto services = cluster_.services();
  ASSERT_THAT(services, SizeIs(1));
  EXPECT_EQ(services[0]->name, "orders.a");
}

TEST_F(KubernetesCluster, a_slice_may_change_its_service_and_go) {
  cluster_.put(service("shop", "10.96.0.1"));
  cluster_.put(slice_of("shop", {endpoint("10.1.0.1")}));
  cluster_.update();
  SliceObject moved = slice_of("shop", {endpoint("10.1.0.1")});
  moved.meta.service_name = "other";
  cluster_.put(moved);
  EXPECT_TRUE(cluster_.update());
  EXPECT_THAT(view(), ElementsAre("10.96.0.1:80/tcp"));
  cluster_.put(slice_of("shop", {endpoint("10.1.0.1")}));
  cluster_.update();
  cluster_.remove_slice("shop/s");
  EXPECT_TRUE(cluster_.update());
  EXPECT_THAT(view(), ElementsAre("10.96.0.1:80/tcp"));
}

TEST_F(KubernetesCluster, a_list_replaces_what_was_known_of_its_namespace) {
  for (const char* const space : {"shop", "test"}) {
    cluster_.put(service(space, space == std::string("shop") ? "10.96.0.1" : "10.96.0.2"));
    cluster_.put(slice_of(space, {endpoint("10.1.0.1")}, "a"));
    cluster_.put(slice_of(space, {endpoint("10.1.0.2")}, "b"));
  }
  cluster_.update();
  cluster_.begin_slices("shop");
  cluster_.put(slice_of("shop", {endpoint("10.1.0.3")}, "b"));
  cluster_.update();
  EXPECT_THAT(view()[0], "10.96.0.1:80/tcp 10.1.0.1:8080 10.1.0.3:8080") << "nothing goes before the list is whole";
  cluster_.end_slices("shop");
  cluster_.begin_services("test");
  cluster_.end_services("test");
  EXPECT_TRUE(cluster_.update());
  EXPECT_THAT(view(), ElementsAre("10.96.0.1:80/tcp 10.1.0.3:8080"));
  cluster_.begin_services("");
  cluster_.end_services("");
  EXPECT_TRUE(cluster_.update());
  EXPECT_THAT(view(), IsEmpty());
}

}  // namespace
}  // namespace mesh::discovery::kubernetes
